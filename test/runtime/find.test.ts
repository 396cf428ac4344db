import { describe, expect, it } from 'vitest'
import { EnvironmentError } from '../../src/runtime/errors.js'
import { describeMiss, findDriver, findNvrtc, notFound, type Search } from '../../src/runtime/find.js'
import type { SystemView } from '../../src/runtime/system.js'

/** A machine as data: files by path, what they are, and what happens on loading them. */
type FileKind = 'elf' | 'arm' | 'elf32' | 'script' | 'broken' | { link: string } | { text: string } | 'folder'
interface Machine {
  files?: { [path: string]: FileKind }
  /** What the loader finds by soname. */
  sonames?: readonly string[]
  environment?: { [name: string]: string }
  arch?: string
}

function machine({ files = {}, sonames = [], environment = {}, arch = 'x64' }: Machine): SystemView & { loaded: string[] } {
  const loaded: string[] = []
  const real = (path: string): string => {
    const file = files[path]
    return typeof file === 'object' && 'link' in file ? real(file.link) : path
  }
  const list = (folder: string): string[] => [...new Set(Object.keys(files).filter((path) => path.startsWith(`${folder}/`)).map((path) => path.slice(folder.length + 1).split('/')[0]!))].sort()
  return {
    loaded, environment, platform: 'linux', arch, home: '/home/me', workingFolder: '/here', packageRoot: '/pkg',
    exists: (path) => path in files || list(path).length > 0,
    list,
    real,
    firstBytes(path) {
      const file = files[real(path)]
      if (file === undefined) return undefined
      const start = new Uint8Array(20)
      if (file === 'script') return new TextEncoder().encode('/* GNU ld script */ ').slice(0, 20)
      start.set([0x7f, 0x45, 0x4c, 0x46, file === 'elf32' ? 1 : 2])
      start[18] = file === 'arm' ? 183 : 62
      return start
    },
    text(path) {
      const file = files[path]
      return typeof file === 'object' && 'text' in file ? file.text : undefined
    },
    load(file) {
      if (!file.includes('/')) return sonames.includes(file) ? (loaded.push(file), undefined) : `${file}: cannot open shared object file: No such file or directory`
      if (files[real(file)] === 'broken') return `${file}: undefined symbol: __cudart`
      loaded.push(file)
      return undefined
    },
  }
}

const cu13 = 'nvidia/cu13/lib/libnvrtc.so.13', cu12 = 'nvidia/cuda_nvrtc/lib/libnvrtc.so.12'
const wheel13 = (site: string, minor = 5): { [path: string]: FileKind } => ({ [`${site}/${cu13}`]: 'elf', [`${site}/nvidia/cu13/lib/libnvrtc-builtins.so.13.${minor}`]: 'elf' })
const wheel12 = (site: string, minor = 9): { [path: string]: FileKind } => ({ [`${site}/${cu12}`]: 'elf', [`${site}/nvidia/cuda_nvrtc/lib/libnvrtc-builtins.so.12.${minor}`]: 'elf' })
const toolkit = (root: string, version: string): { [path: string]: FileKind } => {
  const [major] = version.split('.')
  return {
    [`${root}/lib64/libnvrtc.so.${major}`]: { link: `${root}/lib64/libnvrtc.so.${version}.61` },
    [`${root}/lib64/libnvrtc.so.${version}.61`]: 'elf',
    [`${root}/lib64/libnvrtc-builtins.so.${version}`]: 'elf',
  }
}
const venv = '/venv/lib/python3.11/site-packages'

const chosen = (search: Search): string | undefined => search.chosen && `${search.chosen.file} [${search.chosen.foundVia}]`
const misses = (search: Search): string[] => search.misses.map(describeMiss)

describe('NVRTC is found', () => {
  it.each<[string, Machine, string]>([
    ['in .weft of the package', { files: wheel13('/pkg/.weft/cuda-13') }, `/pkg/.weft/cuda-13/${cu13} [npm run setup:nvrtc]`],
    ['in .weft of the working folder', { files: wheel12('/here/.weft/cuda-12') }, `/here/.weft/cuda-12/${cu12} [npm run setup:nvrtc]`],
    ['in a virtual environment', { files: wheel13(venv), environment: { VIRTUAL_ENV: '/venv' } }, `${venv}/${cu13} [Python wheels (VIRTUAL_ENV)]`],
    ['in .venv', { files: wheel12('/here/.venv/lib/python3.12/site-packages') }, `/here/.venv/lib/python3.12/site-packages/${cu12} [Python wheels (.venv)]`],
    ["in conda's wheels", { files: wheel12('/conda/lib/python3.10/site-packages'), environment: { CONDA_PREFIX: '/conda' } }, `/conda/lib/python3.10/site-packages/${cu12} [Python wheels (CONDA_PREFIX)]`],
    ["in conda's own folder", { files: { '/conda/lib/libnvrtc.so.12': 'elf' }, environment: { CONDA_PREFIX: '/conda' } }, '/conda/lib/libnvrtc.so.12 [CONDA_PREFIX]'],
    ["in conda's targets", { files: { '/conda/targets/x86_64-linux/lib/libnvrtc.so.13': 'elf' }, environment: { CONDA_PREFIX: '/conda' } }, '/conda/targets/x86_64-linux/lib/libnvrtc.so.13 [CONDA_PREFIX]'],
    ["in the user's wheels", { files: wheel13('/home/me/.local/lib/python3.11/site-packages') }, `/home/me/.local/lib/python3.11/site-packages/${cu13} [Python wheels (user)]`],
    ["in the system's dist-packages", { files: wheel12('/usr/local/lib/python3.11/dist-packages') }, `/usr/local/lib/python3.11/dist-packages/${cu12} [Python wheels (system)]`],
    ["in Debian's python3", { files: wheel12('/usr/lib/python3/dist-packages') }, `/usr/lib/python3/dist-packages/${cu12} [Python wheels (system)]`],
    ['beside the python3 on PATH', { files: { '/opt/py/bin/python3': 'elf', ...wheel13('/opt/py/lib/python3.13/site-packages') }, environment: { PATH: '/bin:/opt/py/bin' } }, `/opt/py/lib/python3.13/site-packages/${cu13} [Python wheels (python3 on PATH)]`],
    ['in pyenv', { files: wheel13('/home/me/.pyenv/versions/3.11.7/lib/python3.11/site-packages') }, `/home/me/.pyenv/versions/3.11.7/lib/python3.11/site-packages/${cu13} [Python wheels (pyenv)]`],
    ['in an old PyTorch, with a hash in the name', { files: { [`${venv}/torch/lib/libnvrtc-b51b459d.so.12`]: 'elf', [`${venv}/torch/lib/libnvrtc-builtins.so.12.1`]: 'elf' }, environment: { VIRTUAL_ENV: '/venv' } }, `${venv}/torch/lib/libnvrtc-b51b459d.so.12 [Python wheels (VIRTUAL_ENV)]`],
    ['under CUDA_PATH', { files: toolkit('/sw/cuda', '12.4'), environment: { CUDA_PATH: '/sw/cuda', CUDA_HOME: '/none' } }, '/sw/cuda/lib64/libnvrtc.so.12 [CUDA_PATH]'],
    ['under CUDA_HOME', { files: toolkit('/sw/cuda', '12.4'), environment: { CUDA_HOME: '/sw/cuda' } }, '/sw/cuda/lib64/libnvrtc.so.12 [CUDA_HOME]'],
    ['by the loader', { sonames: ['libnvrtc.so.12'] }, "libnvrtc.so.12 [the system's loader]"],
    ['in /usr/local/cuda', { files: toolkit('/usr/local/cuda', '12.2') }, '/usr/local/cuda/lib64/libnvrtc.so.12 [CUDA toolkit]'],
    ['in the newest of several toolkits', { files: { ...toolkit('/usr/local/cuda-12.9', '12.9'), ...toolkit('/usr/local/cuda-12.10', '12.10'), ...toolkit('/usr/local/cuda-11.8', '11.8') } }, '/usr/local/cuda-12.10/lib64/libnvrtc.so.12 [CUDA toolkit]'],
    ['in /opt/cuda', { files: toolkit('/opt/cuda', '13.0') }, '/opt/cuda/lib64/libnvrtc.so.13 [CUDA toolkit]'],
    ["in Debian's folder", { files: { '/usr/lib/x86_64-linux-gnu/libnvrtc.so.12': 'elf' } }, "/usr/lib/x86_64-linux-gnu/libnvrtc.so.12 [the distribution's folders]"],
    ['on arm64', { arch: 'arm64', files: { '/usr/lib/aarch64-linux-gnu/libnvrtc.so.13': 'arm' } }, "/usr/lib/aarch64-linux-gnu/libnvrtc.so.13 [the distribution's folders]"],
    ['in the process already', { files: { '/proc/self/maps': { text: '7f00-7f01 r-xp 00000000 08:01 12 /else/where/libnvrtc.so.12\n' }, '/else/where/libnvrtc.so.12': 'elf' } }, '/else/where/libnvrtc.so.12 [already loaded in this process]'],
  ])('%s', (_, description, expected) => {
    expect(chosen(findNvrtc({ system: machine(description) }))).toBe(expected)
  })

  it('in one file under two names once', () => {
    const search = findNvrtc({ system: machine({ files: { ...wheel13('/pkg/.weft/cuda-13'), '/usr/local/cuda/lib64/libnvrtc.so.13': { link: `/pkg/.weft/cuda-13/${cu13}` } } }) })
    expect([search.chosen, ...search.others]).toHaveLength(1)
  })
})

describe('NVRTC is chosen', () => {
  const many: Machine = {
    environment: { VIRTUAL_ENV: '/venv' },
    files: { ...wheel13('/pkg/.weft/cuda-13', 5), ...wheel12(venv, 8), ...toolkit('/usr/local/cuda', '12.2'), ...toolkit('/opt/cuda', '13.0') },
  }
  it.each([
    ['the newest without a driver', undefined, `/pkg/.weft/cuda-13/${cu13}`],
    ['the newest not newer than the driver', { major: 13, minor: 1 }, '/opt/cuda/lib64/libnvrtc.so.13'],
    ['the very version of the driver', { major: 13, minor: 5 }, `/pkg/.weft/cuda-13/${cu13}`],
    ['an older major for an older driver', { major: 12, minor: 4 }, '/usr/local/cuda/lib64/libnvrtc.so.12'],
    ['a newer minor of the same major, where all are newer', { major: 12, minor: 0 }, `${venv}/${cu12}`],
  ])('%s', (_, driver, file) => {
    const system = machine(many)
    const search = findNvrtc({ system, driver })
    expect(search.chosen?.file).toBe(file)
    expect(system.loaded).toEqual([file])
  })

  it('and the others are told about', () => {
    const search = findNvrtc({ system: machine(many), driver: { major: 12, minor: 4 } })
    expect(search.others.map((hit) => hit.file)).toEqual([`${venv}/${cu12}`])
    expect(misses(search).filter((line) => line.includes('unsuitable'))).toEqual([
      `/pkg/.weft/cuda-13/${cu13}: unsuitable for the driver, it is CUDA 13, the driver is 12.4 [npm run setup:nvrtc]`,
      '/opt/cuda/lib64/libnvrtc.so.13: unsuitable for the driver, it is CUDA 13, the driver is 12.4 [CUDA toolkit]',
    ])
  })

  it('never from a major that the driver cannot load', () => {
    expect(findNvrtc({ system: machine({ files: wheel13('/pkg/.weft/cuda-13') }), driver: { major: 12, minor: 9 } }).chosen).toBeUndefined()
  })

  it('as the option or WEFT_NVRTC says, in this order, and nothing else is tried', () => {
    const files = { ...many.files, '/my/libnvrtc.so.11': 'elf', '/your/libnvrtc.so.12': 'elf' } as const
    const system = machine({ ...many, files, environment: { WEFT_NVRTC: '/my/libnvrtc.so.11' } })
    expect(chosen(findNvrtc({ system, driver: { major: 12, minor: 0 } }))).toBe('/my/libnvrtc.so.11 [WEFT_NVRTC]')
    expect(chosen(findNvrtc({ system, path: '/your/libnvrtc.so.12' }))).toBe('/your/libnvrtc.so.12 [option]')
    const wrong = findNvrtc({ system: machine({ ...many, environment: { WEFT_NVRTC: '/my/typo.so' } }) })
    expect(wrong.chosen).toBeUndefined()
    expect(misses(wrong)).toEqual(['/my/typo.so: absent [WEFT_NVRTC]'])
    const off = findNvrtc({ system: machine({ ...many, environment: { WEFT_NVRTC: '0' } }) })
    expect(misses(off)).toEqual(['WEFT_NVRTC: disabled [WEFT_NVRTC]'])
    expect(notFound(off).fix).toMatch(/^unset WEFT_NVRTC/)
  })
})

describe('what is no library is passed over with its reason', () => {
  it.each<[string, FileKind, RegExp]>([
    ['a linker script', 'script', /not ELF, a linker script or a text file/],
    ['a library for arm64', 'arm', /wrong architecture, ELF machine 183, 64 bits/],
    ['a library of 32 bits', 'elf32', /wrong architecture, ELF machine 62, 32 bits/],
    ['a library that does not load', 'broken', /failed to load, .*undefined symbol: __cudart/],
  ])('%s', (_, kind, reason) => {
    const system = machine({ files: { '/usr/local/cuda/lib64/libnvrtc.so.13': kind, ...toolkit('/opt/cuda', '12.2') } })
    const search = findNvrtc({ system })
    expect(search.chosen?.file).toBe('/opt/cuda/lib64/libnvrtc.so.12')
    expect(misses(search).find((line) => line.startsWith('/usr/local/cuda/lib64/libnvrtc.so.13'))).toMatch(reason)
  })

  it('and the error tells all places in order, and the fix', () => {
    const search = findNvrtc({ system: machine({ files: { '/opt/cuda/lib64/libnvrtc.so.12': 'broken' }, environment: { VIRTUAL_ENV: '/venv', CUDA_HOME: '/sw' } }) })
    const error = notFound(search)
    expect(error).toBeInstanceOf(EnvironmentError)
    expect(error).toMatchObject({ code: 'no-nvrtc', exitCode: 3 })
    expect(error.message).toMatchInlineSnapshot(`
      "NVRTC was not found, so no kernel can be compiled for a GPU. Places tried, in order:
          /pkg/.weft: absent [npm run setup:nvrtc]
          /here/.weft: absent [npm run setup:nvrtc]
          /sw/lib64: absent [CUDA_HOME]
          /sw/lib: absent [CUDA_HOME]
          /sw/targets/x86_64-linux/lib: absent [CUDA_HOME]
          libnvrtc.so.13: absent [the system's loader]
          libnvrtc.so.12: absent [the system's loader]
          /usr/local/cuda/lib64: absent [CUDA toolkit]
          /usr/local/cuda/lib: absent [CUDA toolkit]
          /usr/local/cuda/targets/x86_64-linux/lib: absent [CUDA toolkit]
          /opt/cuda/lib: absent [CUDA toolkit]
          /opt/cuda/targets/x86_64-linux/lib: absent [CUDA toolkit]
          /opt/cuda/lib64/libnvrtc.so.12: failed to load, /opt/cuda/lib64/libnvrtc.so.12: undefined symbol: __cudart [CUDA toolkit]
          /usr/lib/x86_64-linux-gnu: absent [the distribution's folders]
          /usr/lib64: absent [the distribution's folders]
          /usr/lib: absent [the distribution's folders]
          /lib/x86_64-linux-gnu: absent [the distribution's folders]
        fix: npm run setup:nvrtc (58 MB, needs no GPU), or set WEFT_NVRTC to the path of libnvrtc.so.12 or .13. The emulator and the reference device still work (--device emulator)"
    `)
  })

  it('a missing builtins library is a warning', () => {
    expect(findNvrtc({ system: machine({ files: { '/opt/cuda/lib64/libnvrtc.so.12': 'elf' } }) }).warnings).toEqual(['/opt/cuda/lib64/libnvrtc.so.12 has no libnvrtc-builtins beside it: compiling may fail with NVRTC error 7'])
    expect(findNvrtc({ system: machine({ files: wheel13('/pkg/.weft/cuda-13') }) }).warnings).toEqual([])
  })
})

describe('the driver is found', () => {
  it.each<[string, Machine, string]>([
    ['by the loader', { sonames: ['libcuda.so.1'] }, "libcuda.so.1 [the system's loader]"],
    ["in the distribution's folder", { files: { '/usr/lib/x86_64-linux-gnu/libcuda.so.1': 'elf' } }, "/usr/lib/x86_64-linux-gnu/libcuda.so.1 [the distribution's folders]"],
    ['in the process already', { sonames: ['libcuda.so.1'], files: { '/proc/self/maps': { text: '7f-8f r-xp 0 08:01 1 /drv/libcuda.so.580.1\n' }, '/drv/libcuda.so.580.1': 'elf' } }, '/drv/libcuda.so.580.1 [already loaded in this process]'],
    ['in a container', { files: { '/usr/local/nvidia/lib64/libcuda.so.1': 'elf' } }, '/usr/local/nvidia/lib64/libcuda.so.1 [container runtime]'],
    ['on Jetson', { arch: 'arm64', files: { '/usr/lib/aarch64-linux-gnu/tegra/libcuda.so.1': 'arm' } }, '/usr/lib/aarch64-linux-gnu/tegra/libcuda.so.1 [Jetson]'],
    ['on WSL, before the one of the distribution', { sonames: ['libcuda.so.1'], files: { '/proc/version': { text: 'Linux 6.6 microsoft-standard-WSL2' }, '/usr/lib/wsl/lib/libcuda.so.1': 'elf' } }, '/usr/lib/wsl/lib/libcuda.so.1 [WSL]'],
    ['as WEFT_LIBCUDA says', { sonames: ['libcuda.so.1'], environment: { WEFT_LIBCUDA: '/my/libcuda.so' }, files: { '/my/libcuda.so': 'elf' } }, '/my/libcuda.so [WEFT_LIBCUDA]'],
  ])('%s', (_, description, expected) => {
    expect(chosen(findDriver({ system: machine(description) }))).toBe(expected)
  })

  it('not when it is switched off, and not the emulator', () => {
    const off = findDriver({ system: machine({ sonames: ['libcuda.so.1'], environment: { WEFT_LIBCUDA: '0' } }) })
    expect(off.chosen).toBeUndefined()
    expect(notFound(off).message).toMatch(/WEFT_LIBCUDA: disabled[^]*fix: unset WEFT_LIBCUDA/)
    expect(findDriver({ system: machine({ files: { '/usr/lib/libweft-emulator-0.so': 'elf' } }) }).chosen).toBeUndefined()
  })
})

describe('traps are named', () => {
  const maps = (...paths: string[]): FileKind => ({ text: paths.map((path) => `7f00-7f01 r-xp 00000000 08:01 12   ${path}`).join('\n') })
  it.each<[string, Machine, RegExp]>([
    ['an empty CUDA_VISIBLE_DEVICES', { sonames: ['libcuda.so.1'], environment: { CUDA_VISIBLE_DEVICES: '' } }, /CUDA_VISIBLE_DEVICES is empty: it hides every GPU/],
    ['a compat folder', { files: { '/proc/self/maps': maps('/usr/local/cuda/compat/libcuda.so.1'), '/usr/local/cuda/compat/libcuda.so.1': 'elf' } }, /cuda\/compat folder .*error 803/],
    ['two drivers', { files: { '/proc/self/maps': maps('/a/libcuda.so.1', '/b/libcuda.so.1'), '/a/libcuda.so.1': 'elf', '/b/libcuda.so.1': 'elf' } }, /two different drivers are loaded in this process: \/a\/libcuda.so.1, \/b\/libcuda.so.1/],
    ["WSL with the distribution's driver", { files: { '/proc/version': { text: 'Linux microsoft' }, '/usr/lib/x86_64-linux-gnu/libcuda.so.1': 'elf' } }, /this is WSL, but the driver is \/usr\/lib\/x86_64/],
    ['a driver update without a reboot', { files: { '/usr/lib64/libcuda.so.1': { link: '/usr/lib64/libcuda.so.580.65.06' }, '/usr/lib64/libcuda.so.580.65.06': 'elf', '/proc/driver/nvidia/version': { text: 'NVRM version: NVIDIA UNIX x86_64 Kernel Module  575.57.08  Sat' } } }, /kernel module is 575\.57\.08 and libcuda is 580\.65\.06: reboot/],
    ['a device without a driver', { files: { '/dev/nvidiactl': 'folder' } }, /device file .* but no libcuda/],
    ['a container without GPUs', { files: { '/.dockerenv': 'folder' } }, /container without the host's driver: start it with GPUs/],
  ])('%s', (_, description, warning) => {
    expect(findDriver({ system: machine(description) }).warnings.join('\n')).toMatch(warning)
  })

  it("a toolkit's stub, by path and through the loader", () => {
    const named = findDriver({ system: machine({ environment: { WEFT_LIBCUDA: '/usr/local/cuda/lib64/stubs/libcuda.so.1' }, files: { '/usr/local/cuda/lib64/stubs/libcuda.so.1': 'elf' } }) })
    expect(named.chosen).toBeUndefined()
    expect(misses(named)).toEqual(["/usr/local/cuda/lib64/stubs/libcuda.so.1: stub library, a toolkit's stub for linking, which cannot run anything [WEFT_LIBCUDA]"])
    let loaded = false
    const system = machine({ sonames: ['libcuda.so.1'] })
    const through = findDriver({ system: {
      ...system,
      text: (path) => (path === '/proc/self/maps' && loaded ? '1-2 r-xp 0 0:0 1 /usr/local/cuda/lib64/stubs/libcuda.so.1\n' : undefined),
      load: (file) => ((loaded = true), system.load(file)),
    } })
    expect(through.chosen).toBeUndefined()
    expect(misses(through)).toContain("/usr/local/cuda/lib64/stubs/libcuda.so.1: stub library, a `stubs` folder is on LD_LIBRARY_PATH [the system's loader]")
  })

  it('and nothing is warned about on a plain machine', () => {
    expect(findDriver({ system: machine({ sonames: ['libcuda.so.1'] }) }).warnings).toEqual([])
  })
})
