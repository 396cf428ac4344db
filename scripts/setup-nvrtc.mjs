// Puts NVIDIA's run-time compiler (NVRTC) into the ignored folder .weft/ of this clone, where Weft's finder looks:
//   npm run setup:nvrtc                the CUDA 13 wheel (drivers from 580 on; sm_75 to sm_121)
//   npm run setup:nvrtc -- --cuda 12   the CUDA 12 wheel (drivers from 525 on)
// It asks pip for one pinned wheel of about 58 MB (13) or 90 MB (12) and unpacks its libraries. No GPU, no CUDA
// toolkit and no C++ compiler are needed. Running it again does nothing; --force fetches anew.
import { spawnSync } from 'node:child_process'
import { existsSync, mkdirSync, mkdtempSync, readdirSync, renameSync, rmSync, writeFileSync } from 'node:fs'
import { dirname, join, relative } from 'node:path'
import { fileURLToPath } from 'node:url'
import { parseArgs } from 'node:util'

// Pinned, so that registers, spills and golden listings are the same for everyone.
const wheels = {
  13: { project: 'nvidia-cuda-nvrtc', version: '13.5.37', folder: 'cuda-13', library: 'nvidia/cu13/lib/libnvrtc.so.13' },
  12: { project: 'nvidia-cuda-nvrtc-cu12', version: '12.9.86', folder: 'cuda-12', library: 'nvidia/cuda_nvrtc/lib/libnvrtc.so.12' },
}

const root = join(dirname(fileURLToPath(import.meta.url)), '..')

/** Ends the program with one line that says what is wrong and one that says what to do. */
function fail(problem, fix, code = 3) {
  console.error(`setup:nvrtc: ${problem}\n  fix: ${fix}`)
  process.exit(code)
}

/** The first Python that starts and has pip and zipfile. */
function findPython() {
  const tried = []
  for (const name of [process.env['PYTHON'], 'python3', 'python'].filter(Boolean)) {
    const probe = spawnSync(name, ['-c', 'import pip, zipfile'], { encoding: 'utf8' })
    if (probe.status === 0) return name
    tried.push(`${name}: ${probe.error ? 'not found' : (probe.stderr.trim().split('\n').pop() ?? 'failed')}`)
  }
  return fail(
    `no Python with pip (${tried.join('; ')})`,
    'install python3 and pip, or set WEFT_NVRTC to the path of an existing libnvrtc.so.12 or libnvrtc.so.13',
  )
}

let options
try {
  options = parseArgs({ options: { cuda: { type: 'string', default: '13' }, force: { type: 'boolean', default: false } } }).values
} catch (error) {
  fail(error.message, 'usage: npm run setup:nvrtc -- [--cuda 12|13] [--force]', 2)
}
const wheel = wheels[options.cuda]
if (!wheel) fail(`--cuda ${options.cuda} is not offered`, 'use --cuda 12 or --cuda 13', 2)
if (process.platform !== 'linux') {
  fail(`Weft finds NVRTC on Linux only, this is ${process.platform}`, 'use WSL or a Linux machine; the reference device works everywhere')
}

const home = join(root, '.weft')
const target = join(home, wheel.folder)
const stamp = join(target, 'wheel.json')
const shown = relative(root, join(target, wheel.library))
const wanted = JSON.stringify({ project: wheel.project, version: wheel.version })
if (!options.force && existsSync(join(target, wheel.library)) && existsSync(stamp)) {
  console.log(`NVRTC ${wheel.version} is already there: ${shown}`)
  process.exit(0)
}

const python = findPython()
mkdirSync(home, { recursive: true })
// Unpacked beside its final place and renamed: an interrupted run never leaves half a library behind.
const work = mkdtempSync(join(home, '.setup-'))
process.on('exit', () => rmSync(work, { recursive: true, force: true }))

console.log(`fetching ${wheel.project} ${wheel.version} with pip ...`)
const pip = spawnSync(
  python,
  ['-m', 'pip', 'download', '--quiet', '--disable-pip-version-check', '--no-deps', '--only-binary=:all:', '--dest', work, `${wheel.project}==${wheel.version}`],
  { encoding: 'utf8', stdio: ['ignore', 'inherit', 'pipe'] },
)
if (pip.status !== 0) {
  const reason = (pip.stderr ?? '').trim().split('\n').filter((line) => /error/i.test(line)).pop() ?? `pip ended with ${pip.status ?? pip.signal}`
  fail(reason, `check the network and pip's settings, or download the wheel ${wheel.project} ${wheel.version} elsewhere and set WEFT_NVRTC to its library`)
}
const file = readdirSync(work).find((name) => name.endsWith('.whl'))
if (!file) fail('pip reported success but left no wheel', 'run it again with --force')

// Only the libraries and the licence: the wheel's headers are not needed.
const unpack = spawnSync(
  python,
  [
    '-c',
    [
      'import sys, zipfile',
      'with zipfile.ZipFile(sys.argv[1]) as wheel:',
      '    wheel.extractall(sys.argv[2], [n for n in wheel.namelist() if "/lib/" in n or "icense" in n])',
    ].join('\n'),
    join(work, file),
    join(work, 'unpacked'),
  ],
  { encoding: 'utf8' },
)
if (unpack.status !== 0) fail(`the wheel cannot be unpacked: ${unpack.stderr.trim().split('\n').pop()}`, 'check free disk space and run it again')
if (!existsSync(join(work, 'unpacked', wheel.library))) fail(`the wheel holds no ${wheel.library}`, 'report this: the pinned wheel has changed')

writeFileSync(join(work, 'unpacked', 'wheel.json'), wanted + '\n')
rmSync(target, { recursive: true, force: true })
renameSync(join(work, 'unpacked'), target)
console.log(`NVRTC ${wheel.version} is ready: ${shown}`)
