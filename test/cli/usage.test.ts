/** Help, exit codes and the texts of errors, through the real binary. */
import { spawnSync } from 'node:child_process'
import { existsSync, mkdirSync, readFileSync, truncateSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'
import { beforeAll, describe, expect, test } from 'vitest'
import { binary, built, folder, json, promptFile, root, small, weft, type Outcome } from './weft.js'

let input: string
beforeAll(() => {
  built()
  input = promptFile('small.safetensors', small)
})

/** Texts without the folder that this run happens to have. */
const plain = (o: Outcome): string => o.stderr.replaceAll(folder, 'DIR')

describe('help', () => {
  test('appears in under 200 ms on a machine that is not busy with other things', async () => {
    const bare: number[] = [], help: number[] = []
    for (let i = 0; i < 8; i++) {
      let start = performance.now()
      spawnSync(process.execPath, ['-e', '0'])
      bare.push(performance.now() - start)
      start = performance.now()
      expect((await weft(['--help'])).code).toBe(0)
      help.push(performance.now() - start)
    }
    // Node alone starts in 40 ms; how much longer that takes here says how busy the machine is.
    expect(Math.min(...help)).toBeLessThan(200 * Math.max(1, Math.min(...bare) / 40))
  })
  test('names every command, and every command explains itself', async () => {
    const all = await weft(['--help'])
    expect(all.stderr).toBe('')
    for (const command of ['demo', 'run', 'explain', 'policies', 'doctor']) {
      expect(all.stdout).toContain(`  ${command}`)
      const [a, b, c] = await Promise.all([weft([command, '--help']), weft(['help', command]), weft([command, '-h'])])
      expect(a).toMatchObject({ code: 0, stderr: '' })
      expect(a.stdout).toContain(`usage: weft ${command}`)
      expect(b.stdout).toBe(a.stdout)
      expect(c.stdout).toBe(a.stdout)
      expect(Math.max(...a.stdout.split('\n').map(l => l.length))).toBeLessThanOrEqual(100)
    }
  })
  test('version', async () => {
    const { version } = JSON.parse(readFileSync(join(root, 'package.json'), 'utf8')) as { version: string }
    expect(await weft(['--version'])).toEqual({ code: 0, stdout: `weft-tensor ${version}\n`, stderr: '' })
  })
  test('the linked binary is this one', () => {
    expect(readFileSync(join(root, 'node_modules', '.bin', 'weft'), 'utf8')).toBe(readFileSync(binary, 'utf8'))
    expect(readFileSync(binary, 'utf8').startsWith('#!/usr/bin/env node\n')).toBe(true)
  })
})

describe('exit code 2: wrong usage', () => {
  const cases: readonly (readonly [string, readonly string[], string])[] = [
    ['an unknown command', ['rnu'], "weft: weft has no command 'rnu'\n  fix: did you mean 'run'? the commands are demo, run, explain, policies, doctor\n"],
    ['an unknown option', ['run', 'snapkv', '--inptu', 'x'], 'weft: weft run has no option --inptu\n  fix: did you mean --input? weft run --help shows what there is\n'],
    ['an option like nothing', ['demo', '--zzz'], 'weft: weft demo has no option --zzz\n  fix: weft demo --help shows what there is\n'],
    ['no policy', ['run'], 'weft: POLICY is missing\n  fix: the form is weft run POLICY --input FILE [--output FILE] [options]\n'],
    ['an argument too many', ['run', 'snapkv', 'x'], "weft: 'x' is one argument too many\n  fix: the form is weft run POLICY --input FILE [--output FILE] [options]\n"],
    ['no input', ['run', 'snapkv'], 'weft: --input is missing\n  fix: name the safetensors file with q, k and v: --input FILE\n'],
    ['no value', ['run', 'snapkv', '--input'], 'weft: --input needs a value\n  fix: write --input FILE\n'],
    ['an option for a value', ['run', 'snapkv', '--input', '--check'], 'weft: --input needs a value\n  fix: write --input FILE, or --input=--check if that is the value\n'],
    ['a value for a switch', ['demo', '--json=yes'], 'weft: --json takes no value\n  fix: write --json alone\n'],
    ['an option twice', ['run', 'snapkv', '--input', 'a', '--input', 'b'], 'weft: --input is given twice\n  fix: give it once\n'],
    ['an unknown policy', ['run', 'snapvk', '--input', 'FILE'], "weft: there is no policy 'snapvk'\n  fix: the policies are snapkv, snapkv-official, snapkv-kvpress\n"],
    ['an unknown device', ['run', 'snapkv', '--input', 'FILE', '--device', 'gpu'], "weft: 'gpu' names no device\n  fix: use cuda, cuda:1, emulator or reference\n"],
    ['a setting without =', ['run', 'snapkv', '--input', 'FILE', '--set', 'window'], "weft: 'window' is not of the form name=value\n  fix: for example window=64\n"],
    ['an unknown setting', ['run', 'snapkv', '--input', 'FILE', '--set', 'windw=3'], "weft: snapkv has no option 'windw'\n  fix: its options are window, capacity, ratio, pool, poolSize, vote, group, rounding, order\n"],
    ['a setting twice', ['run', 'snapkv', '--input', 'FILE', '--set', 'window=3', '--set', 'window=4'], 'weft: window is set twice\n  fix: set it once\n'],
    ['an even pool', ['run', 'snapkv', '--input', 'FILE', '--set', 'poolSize=6'], 'weft: poolSize 6 is even, so a centred window would shift the scores by half a position\n  fix: use 5 or 7\n'],
    ['capacity and ratio', ['run', 'snapkv', '--input', 'FILE', '--set', 'capacity=64', '--set', 'ratio=0.5'], 'weft: both capacity 64 and ratio 0.5 are given, and they say different things\n  fix: give one of them\n'],
    ['no such file', ['run', 'snapkv', '--input', 'none.safetensors'], 'weft: cannot read none.safetensors: no such file or folder\n  fix: check the path, the permissions and the space on the disk\n'],
    ['a window too long', ['run', 'snapkv', '--input', 'FILE', '--set', 'window=100', '--set', 'capacity=150'], 'weft: the window needs the last 100 queries, but q has 64\n  at DIR/small.safetensors\n  fix: pass 100 rows of q, or use a window of 64\n'],
    ['an unknown stage', ['explain', 'snapkv', '--input', 'FILE', '--stage', 'kernels'], "weft: there is no stage 'kernels'\n  fix: did you mean 'kernel'? the stages are graph, plan, schedule, kernel, cuda, resources\n"],
    ['no sizes', ['explain', 'snapkv'], 'weft: the sizes are missing\n  fix: give one of them: --input FILE, or --sizes key=16384,kvHead=8,group=4,dim=128\n'],
    ['a misspelt size', ['explain', 'snapkv', '--sizes', 'keys=9'], "weft: --sizes has 'keys', which is no axis of the inputs\n  fix: did you mean 'key'? the axes are key, kvHead, group, dim, query\n"],
    ['a size that is none', ['explain', 'snapkv', '--sizes', 'key=-4'], "weft: key in --sizes is '-4'\n  fix: use a whole number, at least 1\n"],
    ['nothing to drop', ['explain', 'snapkv', '--sizes', 'key=512,kvHead=1,group=1,dim=64'], 'weft: snapkv keeps all 512 rows of this prompt, so there is no kernel to explain\n  fix: raise key above 1024, or set a smaller capacity: --set capacity=256\n'],
    ['no architecture', ['explain', 'snapkv', '--sizes', 'key=9000,kvHead=1,group=1,dim=32', '--stage', 'resources', '--arch', 'hopper'], "weft: 'hopper' names no GPU architecture\n  fix: write it like sm_90 or sm_90a\n"],
  ]
  test.each(cases)('%s', async (_, args, text) => {
    const o = await weft(args.map(a => (a === 'FILE' ? input : a)))
    expect(plain(o)).toBe(text)
    expect(o).toMatchObject({ code: 2, stdout: '' })
  })
  test('with --json the error is a document as well', async () => {
    const o = await weft(['run', 'snapkv', '--input', input, '--set', 'poolSize=6', '--json'])
    expect(o.code).toBe(2)
    expect(json(o)).toEqual({ error: { code: 'option', message: 'poolSize 6 is even, so a centred window would shift the scores by half a position', fix: 'use 5 or 7', exitCode: 2 } })
  })
  test('no command at all shows what there is', async () => {
    const o = await weft([])
    expect(o).toMatchObject({ code: 2, stdout: '' })
    expect(o.stderr).toContain('usage: weft COMMAND')
  })
})

describe('exit code 2: bad files, and nothing is written', () => {
  const output = (): string => join(folder, 'never.safetensors')
  async function refused(path: string, more: readonly string[] = []): Promise<string> {
    const o = await weft(['run', 'snapkv', '--set', 'capacity=64', '--input', path, '--output', output(), '--device', 'reference', ...more])
    expect(o).toMatchObject({ code: 2, stdout: '' })
    expect(existsSync(output())).toBe(false)
    return plain(o)
  }
  test('a truncated file', async () => {
    const path = promptFile('short.safetensors', small)
    truncateSync(path, 20_000)
    expect(await refused(path)).toMatch(/^weft: DIR\/short\.safetensors: tensor "[qkv]" ends at byte \d+ of the data, but there are only \d+: truncated, or a wrong offset\n {2}fix: fetch or write the file again\n$/)
  })
  test('not a safetensors file', async () => {
    writeFileSync(join(folder, 'text'), 'hello, this is no tensor file at all')
    expect(await refused(join(folder, 'text'))).toMatch(/the header claims \d+ bytes/)
  })
  test('no k', async () => {
    expect(await refused(promptFile('q-only.safetensors', small, ['k', 'v']))).toBe("weft: DIR/q-only.safetensors has no tensor 'k'\n  fix: q, k and v are needed; it has q\n")
  })
  test('heads that do not divide', async () => {
    expect(await refused(promptFile('odd.safetensors', { ...small, queryHeads: 3 }))).toBe('weft: 3 query heads do not divide evenly among 2 KV heads\n  at DIR/odd.safetensors\n  fix: query head h reads KV head ⌊h / group⌋: pass a multiple\n')
  })
  test('the input as the output', async () => {
    const before = readFileSync(input)
    const o = await weft(['run', 'snapkv', '--input', input, '--output', input, '--device', 'reference'])
    expect(plain(o)).toBe('weft: --output DIR/small.safetensors is the input itself\n  fix: give another file\n')
    expect(o.code).toBe(2)
    expect(readFileSync(input).equals(before)).toBe(true)
  })
  test('an output that cannot be written', async () => {
    mkdirSync(join(folder, 'folder'), { recursive: true })
    const o = await weft(['run', 'snapkv', '--set', 'capacity=64', '--input', input, '--output', join(folder, 'folder'), '--device', 'reference', '--json'])
    expect(o.code).toBe(2)
    expect(json<{ error: { message: string } }>(o).error.message).toMatch(/^cannot write .*: it is a folder$/)
  })
  test('schedules', async () => {
    const path = join(folder, 'schedule.json')
    const said = async (text: string): Promise<string> => { writeFileSync(path, text); return refused(input, ['--schedule', path]) }
    expect(await said('{')).toMatch(/^weft: DIR\/schedule\.json: it is no JSON: /)
    expect(await said('{"computeVotes":{"rule":"strem"}}')).toBe('weft: DIR/schedule.json: the schedule of computeVotes has no rule\n  fix: its rule is one of point, stream, select\n')
    expect(await said('{"gatherKeys":{"rule":"point","threads":100,"items":1}}')).toBe('weft: DIR/schedule.json: kernel gatherKeys: threads is 100: a power of two from 32 to 1024 is needed\n  fix: choose other values\n')
    expect(await said('{"gatherKeys":{"rule":"point","threads":128,"itmes":1}}')).toBe("weft: DIR/schedule.json: the schedule of gatherKeys lacks 'items'\n  fix: the fields of the rule point are rule, threads, items\n")
  })
})

describe('exit code 3: this machine lacks something', () => {
  test('no GPU', async () => {
    const o = await weft(['run', 'snapkv', '--input', input, '--device', 'cuda'])
    expect(o).toMatchObject({ code: 3, stdout: '' })
    expect(o.stderr).toMatch(/^weft: /)
    expect(o.stderr).toContain('\n  fix: ')
  })
  test('no C++ compiler', async () => {
    const o = await weft(['run', 'snapkv', '--input', input, '--device', 'emulator'], { environment: { CXX: '/nowhere/g++' } })
    expect(o.stderr).toMatch(/^weft: No C\+\+ compiler: looked for \/nowhere\/g\+\+ in PATH \(CXX names it\)\.\n {2}fix: install one/)
    expect(o).toMatchObject({ code: 3, stdout: '' })
  })
  test('no NVRTC', async () => {
    const o = await weft(['explain', 'snapkv', '--input', input, '--set', 'capacity=64', '--stage', 'resources', '--json'], { environment: { WEFT_NVRTC: '0' } })
    expect(o.code).toBe(3)
    expect(json<{ error: { exitCode: number; fix: string } }>(o).error).toMatchObject({ exitCode: 3, fix: expect.stringContaining('unset WEFT_NVRTC') as string })
  })
  test('without either, the reference interpreter is taken, and why is said', async () => {
    const o = await weft(['run', 'snapkv', '--input', input, '--set', 'capacity=64', '--json'], { environment: { CXX: '/nowhere/g++' } })
    expect(o.code).toBe(0)
    expect(json<{ device: { kind: string; found: string[] } }>(o).device).toMatchObject({ kind: 'reference', found: ['plain loops, no kernels', expect.stringMatching(/^no cuda: /) as string, expect.stringMatching(/^no emulator: No C\+\+ compiler/) as string, '`weft doctor` says more'] })
  })
  test('the text says so too', async () => {
    const o = await weft(['run', 'snapkv', '--input', input, '--set', 'capacity=64'], { environment: { CXX: '/nowhere/g++' } })
    expect(o.stdout).toContain('device   reference interpreter (plain loops, no kernels)\n         no cuda: ')
    expect(o.stdout).toContain('\n         no emulator: No C++ compiler')
  })
  test('doctor says so', async () => {
    const o = await weft(['doctor', '--json'], { environment: { CXX: '/nowhere/g++', WEFT_NVRTC: '0' } })
    expect(o.code).toBe(3)
    expect(json<{ devices: string[]; rows: { id: string; status: string }[] }>(o).devices).toEqual([])
  })
})

describe('exit code 4: a defect', () => {
  const environment = { NODE_OPTIONS: `--import=data:text/javascript,${encodeURIComponent('performance.now = () => { throw new Error("boom") }')}` }
  const args = (): string[] => ['run', 'snapkv', '--input', input, '--set', 'capacity=64', '--device', 'reference']
  test('is a message, not a stack trace', async () => {
    const o = await weft(args(), { environment })
    expect(o).toEqual({ code: 4, stdout: '', stderr: 'weft: internal error: boom\n  fix: this is a defect of weft: please report it with the output of the same command with --debug\n' })
  })
  test('--debug has the stack', async () => {
    const o = await weft([...args(), '--debug'], { environment })
    expect(o.code).toBe(4)
    expect(o.stderr).toMatch(/^Error: boom\n {4}at /)
  })
})
