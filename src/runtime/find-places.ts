/** The places where the libraries may lie, in order, as data. */
import { dirname, join } from 'node:path'
import { loadedFiles, type SystemView } from './system.js'

export type Place = {
  /** How a hit here is reported. */
  readonly via: string
  /** A file, a folder, a soname or, for `disabled`, the variable that says so. */
  readonly name: string
  /** The search ends here, whatever is found: someone named this place. */
  readonly only?: boolean
} & ({ readonly kind: 'file' | 'soname' | 'disabled' } | { readonly kind: 'folder'; readonly pattern: RegExp })

// PyTorch's older wheels carry a hash in the name; the `.alt` and builtins libraries are others.
const nvrtcName = /^libnvrtc(?:-[0-9a-f]{6,})?\.so\.\d+(?:\.\d+)*$/
const driverName = /^libcuda\.so\.1$/

const triple = (system: SystemView): string => (system.arch === 'arm64' ? 'aarch64-linux-gnu' : 'x86_64-linux-gnu')
const toolkitTargets = (system: SystemView): readonly string[] => (system.arch === 'arm64' ? ['sbsa-linux', 'aarch64-linux'] : ['x86_64-linux'])

/** The places that a person named: an option, then a variable; `0` switches the library off. */
function* named(system: SystemView, option: string | undefined, variable: string): Generator<Place> {
  if (option !== undefined) yield { kind: 'file', via: 'option', name: option, only: true }
  const value = system.environment[variable] ?? ''
  if (value === '0') yield { kind: 'disabled', via: variable, name: variable }
  else if (value !== '') yield { kind: 'file', via: variable, name: value, only: true }
}

export function* nvrtcPlaces(system: SystemView, option?: string): Generator<Place> {
  const folder = (via: string, name: string): Place => ({ kind: 'folder', via, name, pattern: nvrtcName })
  yield* named(system, option, 'WEFT_NVRTC')
  for (const file of loadedFiles(system, /\/libnvrtc(?:-[0-9a-f]+)?\.so/)) yield { kind: 'file', via: 'already loaded in this process', name: file }
  for (const root of new Set([system.packageRoot, system.workingFolder])) {
    const home = join(root, '.weft')
    const wheels = system.list(home).filter((name) => /^cuda-\d+$/.test(name))
    if (wheels.length === 0) yield folder('npm run setup:nvrtc', home)
    for (const wheel of wheels) for (const lib of wheelFolders(system, join(home, wheel))) yield folder('npm run setup:nvrtc', lib)
  }
  for (const { via, site } of sitePackages(system)) {
    const folders = wheelFolders(system, site)
    if (folders.length === 0) yield folder(via, join(site, 'nvidia'))
    for (const lib of folders) yield folder(via, lib)
  }
  const conda = system.environment['CONDA_PREFIX'] ?? ''
  if (conda !== '') for (const lib of toolkitFolders(system, conda)) yield folder('CONDA_PREFIX', lib)
  for (const variable of ['CUDA_PATH', 'CUDA_HOME']) {
    const root = system.environment[variable] ?? ''
    if (root !== '') for (const lib of toolkitFolders(system, root)) yield folder(variable, lib)
  }
  for (const major of [13, 12]) yield { kind: 'soname', via: "the system's loader", name: `libnvrtc.so.${major}` }
  for (const root of toolkitRoots(system)) for (const lib of toolkitFolders(system, root)) yield folder('CUDA toolkit', lib)
  for (const lib of systemFolders(system)) yield folder("the distribution's folders", lib)
}

export function* driverPlaces(system: SystemView, option?: string): Generator<Place> {
  const folder = (via: string, name: string): Place => ({ kind: 'folder', via, name, pattern: driverName })
  const wsl = folder('WSL', '/usr/lib/wsl/lib')
  yield* named(system, option, 'WEFT_LIBCUDA')
  for (const file of loadedFiles(system, /\/libcuda\.so/)) yield { kind: 'file', via: 'already loaded in this process', name: file }
  // On WSL a libcuda of the distribution is a trap, so the real one comes first.
  if (/microsoft/i.test(system.text('/proc/version') ?? '')) yield wsl
  yield { kind: 'soname', via: "the system's loader", name: 'libcuda.so.1' }
  for (const lib of systemFolders(system)) yield folder("the distribution's folders", lib)
  yield folder('container runtime', '/usr/local/nvidia/lib64')
  yield wsl
  if (system.arch === 'arm64') for (const name of ['nvidia', 'tegra']) yield folder('Jetson', join('/usr/lib/aarch64-linux-gnu', name))
}

/** The library folders of NVIDIA's wheels and of PyTorch in one site-packages: nvidia/cu13/lib, nvidia/cuda_nvrtc/lib. */
const wheelFolders = (system: SystemView, site: string): string[] => [
  ...system.list(join(site, 'nvidia')).filter((name) => /^(?:cu\d+|cuda_nvrtc)$/.test(name)).sort(newestFirst).map((name) => join(site, 'nvidia', name, 'lib')),
  ...(system.exists(join(site, 'torch', 'lib')) ? [join(site, 'torch', 'lib')] : []),
]

/** Every site-packages in reach, by looking at folders; starting Python would cost more than everything else here. */
function* sitePackages(system: SystemView): Generator<{ via: string; site: string }> {
  const under = (prefix: string): string[] => ['lib', 'lib64'].flatMap((lib) =>
    system.list(join(prefix, lib)).filter((name) => /^python3(\.\d+)?$/.test(name)).sort(newestFirst)
      .flatMap((python) => ['site-packages', 'dist-packages'].map((kind) => join(prefix, lib, python, kind)))
      .filter((site) => system.exists(site)))
  const { environment } = system
  const prefixes: [via: string, prefix: string][] = []
  for (const variable of ['VIRTUAL_ENV', 'CONDA_PREFIX']) {
    const prefix = environment[variable] ?? ''
    if (prefix !== '') prefixes.push([`Python wheels (${variable})`, prefix])
  }
  prefixes.push(['Python wheels (.venv)', join(system.workingFolder, '.venv')])
  for (const folder of (environment['PATH'] ?? '').split(':')) {
    const python = join(folder, 'python3')
    if (folder.startsWith('/') && system.exists(python)) prefixes.push(['Python wheels (python3 on PATH)', dirname(dirname(system.real(python)))])
  }
  const pyenv = environment['PYENV_ROOT'] ?? join(system.home, '.pyenv')
  for (const version of system.list(join(pyenv, 'versions'))) prefixes.push(['Python wheels (pyenv)', join(pyenv, 'versions', version)])
  prefixes.push(['Python wheels (user)', join(system.home, '.local')], ['Python wheels (system)', '/usr/local'], ['Python wheels (system)', '/usr'])
  const seen = new Set<string>()
  for (const [via, prefix] of prefixes) {
    for (const site of under(prefix)) {
      if (seen.has(system.real(site))) continue
      seen.add(system.real(site))
      yield { via, site }
    }
  }
}

const toolkitFolders = (system: SystemView, root: string): string[] =>
  [join(root, 'lib64'), join(root, 'lib'), ...toolkitTargets(system).map((target) => join(root, 'targets', target, 'lib'))]

/** /usr/local/cuda first, which the administrator points somewhere, then the versioned ones, newest first. */
const toolkitRoots = (system: SystemView): string[] => [
  '/usr/local/cuda',
  ...system.list('/usr/local').filter((name) => /^cuda-\d/.test(name)).sort(newestFirst).map((name) => join('/usr/local', name)),
  '/opt/cuda',
]

const systemFolders = (system: SystemView): string[] => [join('/usr/lib', triple(system)), '/usr/lib64', '/usr/lib', join('/lib', triple(system))]

/** Names with numbers, the higher number first: cuda-12.10 before cuda-12.9. */
const newestFirst = (a: string, b: string): number => b.localeCompare(a, 'en', { numeric: true })
