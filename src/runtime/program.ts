/**
 * Programs: outputs compiled for a device. A program is prepared for each set of sizes that needs a text of its own
 * (usually one), and launched with arrays or device buffers.
 *
 *     using program = await compile({ keys, values }, { device: 'emulator' })
 *     const { keys, values } = await program.run({ q, k, v })
 */
import { bindSizes, inputsOf, checkSizes, type Shape } from '../dsl/bind.js'
import { newArray } from '../dsl/dtype.js'
import { WeftError } from '../dsl/errors.js'
import type { Expr } from '../dsl/expr.js'
import type { DtypeOf } from '../dsl/tensor.js'
import type { Sizes } from '../dsl/size.js'
import { sourceText } from '../codegen/emit/cuda.js'
import { emit, lower, type LoweredKernel, type EmittedKernel, type Schedules } from '../codegen/pipeline.js'
import { plan, type Plan } from '../codegen/plan.js'
import type { Memory } from '../codegen/kernel.js'
import { targetOn } from './device-target.js'
import { openDevice, type DeviceSpec, type OpenedDevice, type OpenOptions } from './devices.js'
import type { DeviceBuffer, Kernel, KernelArgument, KernelResources, Module, Stream } from './driver-device.js'
import { ended } from './driver-calls.js'
import { EnvironmentError } from './errors.js'
import { elementCount, inOrder, type HostTensor } from './host-tensor.js'
import { checkInputs, checkOutputs, onDevice, type DeviceTensor, type Input } from './inputs.js'
import { blocksOf, bytesOf, launchNumbers, shapeOf, type LaunchNumbers } from './launch-plan.js'
import { interpret } from './reference.js'
import './lifetime.js'

export type { DeviceTensor, Input } from './inputs.js'

export interface CompileOptions extends OpenOptions {
  /**
   * 'cuda', 'cuda:1', 'emulator', 'reference', or an open device (which stays open). Default: what WEFT_DEVICE names,
   * else the best there is: cuda, the emulator, the reference interpreter.
   */
  readonly device?: DeviceSpec | 'reference' | OpenedDevice
  /** By kernel name. */
  readonly schedules?: Schedules
}

export interface RunOptions {
  /** Values of symbols that the inputs' shapes do not tell. */
  readonly sizes?: Sizes
  /** Default: the device's default stream. */
  readonly stream?: Stream
  /** Where outputs go; those not named are allocated. */
  readonly outputs?: Readonly<Record<string, DeviceBuffer>>
}

/** Kernels for one set of sizes, compiled and loaded. */
export interface Prepared {
  readonly plan: Plan
  readonly kernels: readonly LoweredKernel[]
  readonly emitted: readonly EmittedKernel[]
  readonly numbers: LaunchNumbers
  /** Registers and spills by kernel, from the compiler's report; empty for the emulator. */
  readonly resources: readonly KernelResources[]
  readonly fromCache: boolean
}

export type Outputs = Readonly<Record<string, Expr>>
/** The outputs as arrays, with the dtypes that the expressions have. */
export type Results<O extends Outputs> = { -readonly [N in keyof O]: HostTensor<[DtypeOf<O[N]>] extends [never] ? Expr['dtype'] : DtypeOf<O[N]>> }

/** A run that is under way. Its buffers live until it is disposed of. */
export interface Launch<O extends Outputs = Outputs> extends Disposable {
  readonly outputs: { readonly [N in keyof O]: DeviceTensor }
  /** Resolves when the device has finished. */
  done(): Promise<void>
  /** Waits and copies the outputs. */
  read(): Promise<Results<O>>
}

export interface Program<O extends Outputs = Outputs> extends Disposable {
  readonly outputs: O
  /** Undefined on the reference device. */
  readonly device: OpenedDevice | undefined
  /** Plans, compiles and loads for these sizes. Needed before `launch`; `run` does it. */
  prepare(sizes: Sizes): Promise<Prepared>
  /** Enqueues all kernels and returns at once. Inputs on the host are uploaded. */
  launch(inputs: Readonly<Record<string, Input>>, options?: RunOptions): Launch<O>
  /** Runs and returns the outputs as arrays. */
  run(inputs: Readonly<Record<string, Input>>, options?: RunOptions): Promise<Results<O>>
}

/**
 * Compiles outputs for a device. Kernels are written and compiled when sizes are first known.
 * @throws EnvironmentError where the device asked for is not there
 */
export async function compile<O extends Outputs>(outputs: O, options: CompileOptions = {}): Promise<Program<O>> {
  return (await compileFor(outputs, options)) as unknown as Program<O>
}

async function compileFor(outputs: Outputs, options: CompileOptions): Promise<Program> {
  const { device } = options
  if (typeof device === 'object') return deviceProgram(outputs, device, false, options.schedules ?? {})
  const named = (options.system?.environment ?? process.env)['WEFT_DEVICE'] ?? ''
  if (device === 'reference' || (device === undefined && named === 'reference')) return referenceProgram(outputs)
  let opened: OpenedDevice
  try {
    opened = await openDevice(device, options)
  } catch (error) {
    // Only where none was asked for: what was asked for is never replaced.
    if (device === undefined && named === '' && error instanceof EnvironmentError && error.code === 'no-device') return referenceProgram(outputs)
    throw error
  }
  return deviceProgram(outputs, opened, true, options.schedules ?? {})
}

function referenceProgram(outputs: Readonly<Record<string, Expr>>): Program {
  return {
    outputs, device: undefined,
    prepare: () => Promise.reject(noKernels()),
    launch: () => { throw noKernels() },
    run: async (inputs, options = {}) => {
      checkOutputs(outputs, options.outputs)
      const host = Object.fromEntries(Object.entries(checkInputs(outputs, inputs, options.sizes ?? {})).map(([name, t]) => {
        if (onDevice(t)) throw new WeftError('input', `the input '${name}' lies on a device`, { fix: 'pass a typed array to the reference device' })
        return [name, t]
      }))
      return interpret(outputs, host, options.sizes === undefined ? {} : { sizes: options.sizes })
    },
    [Symbol.dispose]: () => {},
  }
}
const noKernels = (): WeftError => new WeftError('device', 'the reference device has no kernels to launch', { fix: 'use run, or another device' })

interface Loaded extends Prepared {
  readonly functions: readonly Kernel[]
}
type Kernels = Pick<Loaded, 'functions' | 'resources' | 'fromCache'>

function deviceProgram(outputs: Readonly<Record<string, Expr>>, opened: OpenedDevice, own: boolean, schedules: Schedules): Program {
  const { device, compiler } = opened, target = targetOn(device)
  const bySizes = new Map<string, Promise<Loaded>>(), byText = new Map<string, Promise<Kernels>>()
  const ready = new Map<string, Loaded>()
  const loaded = new Set<Module>()
  let open = true
  const mustBeOpen = (use: string): void => { if (!open) throw ended('the program', use) }
  const inputs = inputsOf(outputs)

  const load = async (emitted: readonly EmittedKernel[]): Promise<Kernels> => {
    const bundles = bundled(emitted, compiler.target)
    const images = await Promise.all(bundles.map(b => compiler.compile({ text: sourceText(b, compiler.target), kernels: b.map(k => k.name), arch: device.arch, name: `${b[0]!.name}.cu` })))
    mustBeOpen('its kernels were compiled')
    const modules: Module[] = []
    try {
      for (const i of images) modules.push(device.load(i.image))
      const home = new Map(bundles.flatMap((b, i) => b.map(k => [k.name, modules[i]!] as const)))
      const functions = emitted.map(k => home.get(k.name)!.kernel(k.name))
      modules.forEach(m => loaded.add(m))
      return { functions, resources: images.flatMap(i => i.resources), fromCache: images.every(i => i.fromCache) }
    } catch (error) {
      modules.forEach(m => m[Symbol.dispose]())
      throw error
    }
  }
  const prepare = (sizes: Sizes): Promise<Loaded> => {
    const key = sizesKey(sizes)
    const known = bySizes.get(key)
    if (known !== undefined) return known
    const work = (async () => {
      mustBeOpen('it was prepared')
      const planned = plan(outputs, { sizes }), kernels = lower(planned, schedules, target), emitted = kernels.map(k => emit(k.kernel))
      const text = emitted.map(k => k.text).join()
      let known = byText.get(text)
      if (known === undefined) {
        byText.set(text, (known = load(emitted)))
        // Whoever waits for it is told; the next one tries again.
        known.catch(() => byText.delete(text))
      }
      const all: Loaded = { plan: planned, kernels, emitted, numbers: launchNumbers(kernels, sizes, device.multiprocessors), ...(await known) }
      ready.set(key, all)
      return all
    })()
    bySizes.set(key, work)
    work.catch(() => bySizes.delete(key))
    return work
  }
  const bind = (given: Readonly<Record<string, Input>>, options: RunOptions): { sizes: Sizes; tensors: Record<string, HostTensor | DeviceTensor> } => {
    checkOutputs(outputs, options.outputs)
    const tensors = checkInputs(outputs, given, options.sizes ?? {})
    return { sizes: bindSizes(outputs, shapesOf(tensors), options.sizes), tensors }
  }

  const launch = (given: Readonly<Record<string, Input>>, options: RunOptions = {}): Launch => {
    mustBeOpen('it was launched')
    const { sizes, tensors } = bind(given, options)
    const p = ready.get(sizesKey(sizes))
    if (p === undefined) throw new WeftError('not-prepared', 'there are no kernels for these sizes yet', { fix: 'await program.prepare(sizes) first, or use run' })
    checkSizes(outputs, sizes)
    const stream = options.stream ?? device.defaultStream
    const owned: DeviceBuffer[] = []
    const keep = (b: DeviceBuffer): DeviceBuffer => { owned.push(b); return b }
    try {
      const buffers = new Map<string, DeviceBuffer>()
      for (const [name, t] of Object.entries(tensors)) {
        if (onDevice(t)) { buffers.set(name, aligned(name, t.buffer)); continue }
        const ordered = inOrder(t, inputs.get(name)!.axes.map(a => a.name))
        const buffer = keep(device.alloc(Math.max(16, ordered.data.byteLength), name))
        device.upload(buffer, ordered.data, stream)
        buffers.set(name, buffer)
      }
      const arrays = new Map<Memory, DeviceBuffer>()
      const bufferOf = (m: Memory): DeviceBuffer => {
        if (m.role === 'input') return buffers.get(m.user)!
        let b = arrays.get(m)
        if (b === undefined) arrays.set(m, (b = m.role === 'output' && options.outputs?.[m.user] !== undefined ? fitting(m, options.outputs[m.user]!, bytesOf(m, p.numbers)) : keep(device.alloc(Math.max(16, bytesOf(m, p.numbers)), m.name))))
        return b
      }
      p.kernels.forEach((k, i) => {
        const blocks = blocksOf(k, p.numbers)
        const args: KernelArgument[] = [
          ...k.kernel.inputs.map(bufferOf), ...k.kernel.outputs.map(bufferOf),
          ...k.kernel.symbols.map(s => ({ kind: 'i32', value: sizes[s]! }) as const),
          ...k.kernel.counts.map(c => ({ kind: 'i32', value: c === 'splits' ? p.numbers.splits : p.numbers.shares[k.kernel.name] ?? 1 }) as const),
        ]
        if (blocks > 0) device.launch(p.functions[i]!, { grid: [blocks, 1, 1], block: k.kernel.threads, shared: p.emitted[i]!.sharedBytes, stream }, args)
      })
      const results = outputTensors(p, outputs, bufferOf)
      return {
        outputs: results,
        done: () => stream.done(),
        read: async () => {
          await stream.done()
          return Object.fromEntries(Object.entries(results).map(([name, t]) => {
            const data = newArray(t.dtype, elementCount(t.shape))
            return [name, { dtype: t.dtype, axes: t.axes, shape: t.shape, data: device.downloadSync(t.buffer, data) }]
          }))
        },
        [Symbol.dispose]: () => owned.forEach(b => b[Symbol.dispose]()),
      }
    } catch (error) {
      owned.forEach(b => b[Symbol.dispose]())
      throw error
    }
  }
  return {
    outputs, device: opened, prepare, launch,
    run: async (given, options = {}) => {
      await prepare(bind(given, options).sizes)
      using running = launch(given, options)
      return await running.read()
    },
    [Symbol.dispose]: () => {
      open = false
      loaded.forEach(m => m[Symbol.dispose]())
      if (own) opened[Symbol.dispose]()
    },
  }
}

const shapesOf = (tensors: Readonly<Record<string, HostTensor | DeviceTensor>>): Record<string, Shape> =>
  Object.fromEntries(Object.entries(tensors).map(([name, t]) => [name, Object.fromEntries(t.axes.map((a, i) => [a, t.shape[i]!]))]))
const sizesKey = (sizes: Sizes): string => JSON.stringify(Object.entries(sizes).sort(([a], [b]) => (a < b ? -1 : 1)))

/** Kernels as texts. NVRTC compiles them side by side; a C++ compiler starts slowly, so it gets two texts at most. */
export const bundled = (emitted: readonly EmittedKernel[], target: 'cuda' | 'host'): EmittedKernel[][] =>
  target === 'cuda' ? emitted.map(k => [k]) : divide(emitted, 2)
const divide = <T>(list: readonly T[], parts: number): T[][] =>
  Array.from({ length: Math.min(parts, list.length) }, (_, i) => list.filter((_, n) => n % parts === i))

function outputTensors(p: Prepared, outputs: Readonly<Record<string, Expr>>, bufferOf: (m: Memory) => DeviceBuffer): Record<string, DeviceTensor> {
  return Object.fromEntries(Object.keys(outputs).map(name => {
    const memory = p.plan.outputMemories.get(name)!
    return [name, { dtype: memory.dtype, axes: memory.axes.map(a => a.name), shape: shapeOf(memory, p.numbers), buffer: bufferOf(memory) }]
  }))
}

/** Kernels move 16 bytes at once. */
function aligned(name: string, b: DeviceBuffer): DeviceBuffer {
  if (b.pointer % 16n !== 0n) throw new WeftError('alignment', `the buffer of '${name}' starts at ${b.pointer}, which is no multiple of 16 bytes`, { fix: 'allocate it aligned, or copy it' })
  return b
}
function fitting(m: Memory, b: DeviceBuffer, bytes: number): DeviceBuffer {
  if (b.bytes < bytes) throw new WeftError('shape', `the output '${m.name}' needs ${bytes} bytes, its buffer has ${b.bytes}`, { fix: 'allocate a larger one' })
  return aligned(m.name, b)
}
