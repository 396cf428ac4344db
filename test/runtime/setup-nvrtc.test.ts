import { spawnSync } from 'node:child_process'
import { copyFileSync, existsSync, mkdirSync, mkdtempSync, readdirSync, readFileSync, rmSync, writeFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { beforeEach, describe, expect, it } from 'vitest'

const script = join(import.meta.dirname, '../../scripts/setup-nvrtc.mjs')
const hasPip = spawnSync('python3', ['-c', 'import pip, zipfile']).status === 0
if (!hasPip) console.warn('SKIPPED: fetching a wheel. There is no python3 with pip here')

let clone = ''
beforeEach(() => {
  clone = mkdtempSync(join(tmpdir(), 'weft-setup-'))
  mkdirSync(join(clone, 'scripts'))
  copyFileSync(script, join(clone, 'scripts/setup-nvrtc.mjs'))
})

/** Runs the script in a clone of its own, with pip cut off from any index. */
function setup(args: readonly string[], environment: { readonly [name: string]: string } = {}): { status: number | null; text: string } {
  const { status, stdout, stderr } = spawnSync(process.execPath, [join(clone, 'scripts/setup-nvrtc.mjs'), ...args], {
    encoding: 'utf8', env: { ...process.env, PIP_NO_INDEX: '1', ...environment },
  })
  return { status, text: stdout + stderr }
}

/** A wheel that holds what the real one does, a few bytes each. */
function fakeWheel(files: readonly string[]): string {
  const folder = join(clone, 'wheels')
  const info = 'nvidia_cuda_nvrtc-13.5.37.dist-info'
  mkdirSync(folder)
  const make = `
import sys, zipfile
with zipfile.ZipFile(sys.argv[1], "w") as wheel:
    for name in sys.argv[2:]: wheel.writestr(name, "\\x7fELF")
    wheel.writestr("${info}/METADATA", "Metadata-Version: 2.1\\nName: nvidia-cuda-nvrtc\\nVersion: 13.5.37\\n")
    wheel.writestr("${info}/WHEEL", "Wheel-Version: 1.0\\nRoot-Is-Purelib: true\\nTag: py3-none-any\\n")
    wheel.writestr("${info}/RECORD", "")
`
  spawnSync('python3', ['-c', make, join(folder, 'nvidia_cuda_nvrtc-13.5.37-py3-none-any.whl'), ...files])
  return folder
}

const library = 'nvidia/cu13/lib/libnvrtc.so.13'

describe('npm run setup:nvrtc', () => {
  it('refuses what it does not offer with the usage', () => {
    expect(setup(['--cuda', '11'])).toMatchObject({ status: 2, text: expect.stringMatching(/--cuda 11 is not offered\n {2}fix: use --cuda 12 or --cuda 13/) })
    expect(setup(['--cudda'])).toMatchObject({ status: 2, text: expect.stringMatching(/usage: npm run setup:nvrtc/) })
  })

  it('says what to do without Python', () => {
    expect(setup([], { PATH: '/nowhere', PYTHON: '' })).toMatchObject({ status: 3, text: expect.stringMatching(/no Python with pip \(python3: not found; python: not found\)\n {2}fix: install python3 and pip, or set WEFT_NVRTC/) })
  })

  it.skipIf(!hasPip)('says what to do without a network, and leaves nothing behind', () => {
    const { status, text } = setup([])
    expect(status).toBe(3)
    expect(text).toMatch(/No matching distribution[^]*fix: check the network/)
    expect(readdirSync(join(clone, '.weft'))).toEqual([])
  })

  it.skipIf(!hasPip)('unpacks the libraries, and does nothing the second time', () => {
    const PIP_FIND_LINKS = fakeWheel([library, 'nvidia/cu13/lib/libnvrtc-builtins.so.13.5', 'nvidia/cu13/include/nvrtc.h'])
    expect(setup([], { PIP_FIND_LINKS })).toMatchObject({ status: 0, text: expect.stringMatching(/NVRTC 13\.5\.37 is ready: \.weft\/cuda-13\/nvidia/) })
    expect(readdirSync(join(clone, '.weft'))).toEqual(['cuda-13'])
    expect(readdirSync(join(clone, '.weft/cuda-13/nvidia/cu13'))).toEqual(['lib'])
    expect(JSON.parse(readFileSync(join(clone, '.weft/cuda-13/wheel.json'), 'utf8'))).toEqual({ project: 'nvidia-cuda-nvrtc', version: '13.5.37' })
    expect(setup([])).toMatchObject({ status: 0, text: expect.stringMatching(/already there/) })
    rmSync(join(clone, '.weft/cuda-13', library))
    expect(setup([], { PIP_FIND_LINKS })).toMatchObject({ status: 0, text: expect.stringMatching(/is ready/) })
    writeFileSync(join(clone, '.weft/cuda-13', library), 'old')
    expect(setup(['--force'], { PIP_FIND_LINKS }).status).toBe(0)
    expect(readFileSync(join(clone, '.weft/cuda-13', library), 'latin1')).toBe('\x7fELF')
  })

  it.skipIf(!hasPip)('refuses a wheel without the library and keeps what was there', () => {
    const PIP_FIND_LINKS = fakeWheel(['nvidia/cu13/lib/other.so'])
    mkdirSync(join(clone, '.weft/cuda-13'), { recursive: true })
    expect(setup([], { PIP_FIND_LINKS })).toMatchObject({ status: 3, text: expect.stringMatching(/the wheel holds no nvidia\/cu13\/lib\/libnvrtc\.so\.13/) })
    expect(existsSync(join(clone, '.weft/cuda-13'))).toBe(true)
    expect(readdirSync(join(clone, '.weft'))).toEqual(['cuda-13'])
  })
})
