/**
 * Runs many small programs on one device, several in one compilation: a C++ compiler starts slowly. It goes through the
 * public stages plan, lower and emit, and launches the kernels itself, so that a test can change the text in between.
 */
import { bindSizes, inputsOf } from '../src/dsl/bind.js'
import { newArray } from '../src/dsl/dtype.js'
import type { Expr } from '../src/dsl/expr.js'
import { symbolsOf } from '../src/dsl/bind.js'
import type { Sizes } from '../src/dsl/size.js'
import { emit, lower, type EmittedKernel, type LoweredKernel } from '../src/codegen/pipeline.js'
import { sourceText } from '../src/codegen/emit/cuda.js'
import type { Memory } from '../src/codegen/kernel.js'
import { plan, type Group, type Plan, type PlanOptions } from '../src/codegen/plan.js'
import type { Choices } from '../src/codegen/plan/choices.js'
import type { Schedule } from '../src/codegen/schedule.js'
import { targetOn } from '../src/runtime/device-target.js'
import { openDevice, type OpenedDevice } from '../src/runtime/devices.js'
import type { DeviceBuffer, Kernel, KernelArgument, Module } from '../src/runtime/driver-device.js'
import type { Compiler } from '../src/runtime/compiler.js'
import { openHostCompiler, emulatorFolder } from '../src/runtime/host-compiler.js'
import { openCache } from '../src/runtime/cache.js'
import { elementCount, inOrder, type HostTensor } from '../src/runtime/host-tensor.js'
import { blocksOf, bytesOf, launchNumbers, shapeOf } from '../src/runtime/launch-plan.js'
import type { DeviceName } from './devices.js'

export type Results = Readonly<Record<string, HostTensor>>

export interface Job {
  readonly outputs: Readonly<Record<string, Expr>>
  readonly inputs: Readonly<Record<string, HostTensor>>
  readonly sizes?: Sizes
  /** A schedule for a kernel, or nothing for the default. */
  readonly schedule?: (group: Group) => Schedule | undefined
  /** Changes kernels between lowering and emission, or their text after it: how mutants are made. */
  readonly edit?: (kernel: LoweredKernel) => LoweredKernel
  readonly editText?: (text: string, kernel: EmittedKernel) => string
  /** Changes the plan: groups that no planner makes so far can be tried. */
  readonly replan?: (plan: Plan) => Plan
  /** Fewer blocks make plans that do not split folds. */
  readonly blocks?: number
  /** Decisions of the planner that are made; the rest is chosen by cost. */
  readonly choices?: Choices
  /** The symbols that the text has as numbers: their names. Default: those that `plan` chooses. */
  readonly specialise?: readonly string[]
  /** In the place of the orders that `run` is told. */
  readonly orders?: readonly string[]
}

export interface Outcome {
  readonly plan?: Plan
  readonly emitted: readonly EmittedKernel[]
  /** One for each order. */
  readonly results: readonly Results[]
  /** What went wrong, and where. */
  readonly error?: { readonly stage: 'plan' | 'compile' | 'run'; readonly message: string }
}

/** What kernels are called until it is known which programs share a text. */
const neutral = 'weft0_'

interface Ready {
  readonly job: Job
  readonly sizes: Sizes
  readonly plan: Plan
  readonly kernels: readonly LoweredKernel[]
  readonly emitted: readonly EmittedKernel[]
}

export interface SessionOptions {
  /** For the emulator's compiler. Small programs are compiled quickest with 0. */
  readonly optimise?: 0 | 1 | 2
  readonly races?: boolean
  /** Programs in one compilation. */
  readonly bundle?: number
}

export class Session implements AsyncDisposable {
  private constructor(readonly name: Exclude<DeviceName, 'reference'>, private opened: OpenedDevice, private readonly compiler: Compiler, private readonly options: SessionOptions) {}
  private count = 0
  private turn: Promise<void> = Promise.resolve()

  static async open(name: Exclude<DeviceName, 'reference'>, options: SessionOptions = {}): Promise<Session> {
    const opened = await openDevice(name)
    const folder = emulatorFolder(openCache({ environment: process.env }))
    const compiler = name === 'cuda' ? opened.compiler : openHostCompiler({ optimise: options.optimise ?? 0, races: options.races === true, cacheDir: folder })
    return new Session(name, opened, compiler, options)
  }
  [Symbol.asyncDispose](): Promise<void> {
    this.opened[Symbol.dispose]()
    return Promise.resolve()
  }
  dispose(): void { this.opened[Symbol.dispose]() }

  /** Kernels of a job, under names that no other job has. */
  private prepare(job: Job): Ready {
    const shapes = Object.fromEntries([...inputsOf(job.outputs).keys()].map(name => {
      const t = job.inputs[name]!
      return [name, Object.fromEntries(t.axes.map((a, i) => [a, t.shape[i]!]))]
    }))
    const needed = symbolsOf(job.outputs)
    const sizes = bindSizes(job.outputs, shapes, Object.fromEntries(Object.entries(job.sizes ?? {}).filter(([n]) => needed.includes(n))))
    const first = plan(job.outputs, planOptions(job, sizes)), planned = job.replan?.(first) ?? first
    const groups = planned.groups.map(g => ({ ...g, name: neutral + g.name }))
    const schedules = Object.fromEntries(groups.flatMap(g => { const s = job.schedule?.(g); return s === undefined ? [] : [[g.name, s] as const] }))
    const kernels = lower({ ...planned, groups }, schedules, targetOn(this.opened.device)).map(k => job.edit?.(k) ?? k)
    const emitted = kernels.map(k => emit(k.kernel)).map(k => (job.editText === undefined ? k : { ...k, text: job.editText(k.text, k) }))
    return { job, sizes, plan: planned, kernels, emitted }
  }

  /** All jobs in each of the orders (the emulator's; other devices have one of their own). */
  async run(jobs: readonly Job[], orders: readonly string[] = ['ascending']): Promise<Outcome[]> {
    const prepared = jobs.map((job): Ready | Outcome => {
      try { return this.prepare(job) } catch (error) { return { emitted: [], results: [], error: { stage: 'plan', message: messageOf(error) } } }
    })
    const ready = prepared.filter((p): p is Ready => 'job' in p)
    const outcomes = new Map<Ready, Outcome>()
    const size = this.options.bundle ?? 10
    // Programs with one text are compiled once: those of one kind at several lengths.
    const texts = new Map<string, Ready[]>()
    for (const r of ready) {
      const key = r.emitted.map(k => k.text).join()
      texts.set(key, [...(texts.get(key) ?? []), r])
    }
    const distinct = [...texts.values()]
    const bundles = Array.from({ length: Math.ceil(distinct.length / size) }, (_, i) => distinct.slice(i * size, (i + 1) * size))
    // Compilations side by side; each bundle's programs run when it is there.
    await Promise.all(bundles.map(b => this.bundle(b, orders, outcomes)))
    return prepared.map(p => ('job' in p ? outcomes.get(p)! : p))
  }

  private async bundle(texts: readonly (readonly Ready[])[], orders: readonly string[], outcomes: Map<Ready, Outcome>): Promise<void> {
    const prefixes = texts.map(() => `p${this.count++}_`)
    const kernels = texts.flatMap((t, i) => t[0]!.emitted.map(k => ({ ...k, name: k.name.replace(neutral, prefixes[i]!), text: k.text.replaceAll(neutral, prefixes[i]!) })))
    let image: Uint8Array
    try {
      image = kernels.length === 0 ? new Uint8Array(0) : (await this.compiler.compile({ text: sourceText(kernels, this.compiler.target), kernels: kernels.map(k => k.name), arch: this.opened.device.arch, name: 'bundle.cu' })).image
    } catch (error) {
      if (texts.length > 1) { for (const t of texts) await this.bundle([t], orders, outcomes); return }
      for (const r of texts[0]!) outcomes.set(r, { plan: r.plan, emitted: r.emitted, results: [], error: { stage: 'compile', message: messageOf(error) } })
      return
    }
    // Compilations overlap; runs take turns, because one that fails closes the device and opens it again.
    const before = this.turn
    let over = (): void => {}
    this.turn = new Promise(resolve => { over = resolve })
    await before
    let module: Module | undefined   // loaded once for all of them, and again after a failure
    for (const [i, t] of texts.entries()) for (const r of t) {
      const results: Results[] = []
      try {
        if (kernels.length > 0) module ??= this.opened.device.load(image)
        for (const order of r.job.orders ?? orders) results.push(this.launch(r, module, prefixes[i]!, order))
        outcomes.set(r, { plan: r.plan, emitted: r.emitted, results })
      } catch (error) {
        outcomes.set(r, { plan: r.plan, emitted: r.emitted, results, error: { stage: 'run', message: messageOf(error) } })
        if (await this.recover()) module = undefined
      }
    }
    module?.[Symbol.dispose]()
    over()
  }

  /** A kernel that failed poisons its device: whether another one was opened. */
  private async recover(): Promise<boolean> {
    if (this.opened.device.poisonedBy === undefined) return false
    this.opened[Symbol.dispose]()
    this.opened = await openDevice(this.name)
    return true
  }

  private launch(r: Ready, module: Module | undefined, prefix: string, order: string): Results {
    const { device, emulator } = this.opened
    emulator?.setOrder(order)
    const owned: Disposable[] = []
    const keep = <T extends Disposable>(x: T): T => { owned.push(x); return x }
    try {
      const numbers = launchNumbers(r.kernels, r.sizes, device.multiprocessors)
      const inputs = inputsOf(r.job.outputs), arrays = new Map<string | Memory, DeviceBuffer>()
      for (const [name, e] of inputs) {
        const { data } = inOrder(r.job.inputs[name]!, e.axes.map(a => a.name))
        const buffer = keep(device.alloc(Math.max(16, data.byteLength), name))
        device.upload(buffer, data)
        arrays.set(name, buffer)
      }
      const bufferOf = (m: Memory): DeviceBuffer => {
        const key = m.role === 'input' ? m.user : m
        let b = arrays.get(key)
        if (b === undefined) {
          arrays.set(key, (b = keep(device.alloc(Math.max(16, bytesOf(m, numbers)), m.name))))
          device.fill(b, 0xa5)   // what no kernel writes shows
        }
        return b
      }
      r.kernels.forEach((k, i) => {
        const blocks = blocksOf(k, numbers), { kernel } = k
        const args: KernelArgument[] = [
          ...kernel.inputs.map(bufferOf), ...kernel.outputs.map(bufferOf),
          ...kernel.symbols.map(s => ({ kind: 'i32', value: r.sizes[s]! }) as const),
          ...kernel.counts.map(c => ({ kind: 'i32', value: c === 'splits' ? numbers.splits : numbers.shares[kernel.name] ?? 1 }) as const),
        ]
        const f: Kernel = module!.kernel(kernel.name.replace(neutral, prefix))
        if (blocks > 0) device.launch(f, { grid: [blocks, 1, 1], block: kernel.threads, shared: r.emitted[i]!.sharedBytes }, args)
      })
      return Object.fromEntries(Object.keys(r.job.outputs).map(name => {
        const m = r.plan.outputMemories.get(name)!, shape = shapeOf(m, numbers), data = newArray(m.dtype, elementCount(shape))
        return [name, { dtype: m.dtype, axes: m.axes.map(a => a.name), shape, data: device.downloadSync(bufferOf(m), data) }]
      }))
    } finally {
      for (const x of owned.reverse()) try { x[Symbol.dispose]() } catch { /* the first error tells */ }
    }
  }
}

/** What a job says of its plan. */
export const planOptions = ({ blocks, choices, specialise }: Pick<Job, 'blocks' | 'choices' | 'specialise'>, sizes: Sizes): PlanOptions => ({
  sizes, ...(blocks === undefined ? {} : { blocks }), ...(choices === undefined ? {} : { choices }),
  ...(specialise === undefined ? {} : { specialise: Object.fromEntries(Object.entries(sizes).filter(([n]) => specialise.includes(n))) }),
})
const messageOf = (error: unknown): string => (error instanceof Error ? `${error.message}${'code' in error ? '' : `\n${error.stack ?? ''}`}` : String(error))

/** Whether two tensors are the same to the last bit. */
export function sameBits(a: HostTensor, b: HostTensor): boolean {
  const bytes = (t: HostTensor): Uint8Array => new Uint8Array(t.data.buffer, t.data.byteOffset, t.data.byteLength)
  return Buffer.compare(bytes(a), bytes(b)) === 0
}
