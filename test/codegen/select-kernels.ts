/** Select kernels built by hand, run on the emulator in adversarial orders, and what they should give. */
import { pool, tensor, topK } from '../../src/dsl/ops.js'
import { axisOf, type Expr, type Of } from '../../src/dsl/expr.js'
import { byteSize } from '../../src/dsl/dtype.js'
import { evaluateSize, size, toSize, type Size, type SizeLike, type Sizes } from '../../src/dsl/size.js'
import { emit, sourceText, type EmittedKernel } from '../../src/codegen/emit/cuda.js'
import * as ix from '../../src/codegen/index-expr.js'
import type { Kernel, Memory } from '../../src/codegen/kernel.js'
import { lowerSelect } from '../../src/codegen/lower/select.js'
import { insideFacts, valueAt, type Stored } from '../../src/codegen/lower/value.js'
import { defaultSelect, type SelectSchedule } from '../../src/codegen/schedule-select.js'
import { openDevice } from '../../src/runtime/devices.js'
import type { DeviceBuffer, DriverDevice } from '../../src/runtime/driver-device.js'
import { compileHost } from '../../src/runtime/emulator/compile.js'

export interface Form {
  readonly name: string
  readonly dtype?: 'f32' | 'bf16'
  readonly length?: SizeLike
  readonly k?: SizeLike
  readonly order?: 'position' | 'score'
  /** Size of a max pool before the selection. */
  readonly pool?: number
  /** Names of the arrays. */
  readonly input?: string
  readonly output?: string
  readonly schedule?: Partial<SelectSchedule>
}

/** topK over `key` of a tensor [row, key], which lies in memory. */
export function selectKernels(f: Form): Kernel[] {
  const { input = 'votes', output = 'positions' } = f
  const x = tensor(input, f.dtype ?? 'f32', { row: size('row'), key: toSize(f.length ?? size('key')) })
  const pooled = f.pool === undefined ? x : pool.max(x, 'key', { size: f.pool })
  const node = topK(pooled, 'key', { k: f.k ?? size('k'), as: 'kept', order: f.order ?? 'position' }) as Expr as Of<'topK'>
  const memory = (name: string, e: Expr, role: Memory['role']): Memory => ({ name, user: name, dtype: e.dtype, role, axes: e.axes })
  const stored = new Map<Expr, Stored>([[x, { form: 'array', memory: memory(input, x, 'input') }]])
  const taken = new Set<string>()
  const fresh = (wish: string): string => { let n = wish; for (let i = 2; taken.has(n); i++) n = `${wish}${i}`; taken.add(n); return n }
  return lowerSelect({
    name: f.name, node, stored, fresh, target: memory(output, node, 'output'),
    summary: name => [`${name}: positions of the best keys of a row`],
    score: (position, inset) => {
      const facts = node.arg.axes.flatMap(a => [0, a.name === 'key' ? inset : 0].flatMap(n => insideFacts(position.get(a.name)!, axisOf(node.arg, a.name)!.size, n)))
      return valueAt(node.arg, position, { stored, tile: () => undefined, fresh, safe: facts, assumed: facts })
    },
  }, { ...defaultSelect, ...f.schedule })
}

// ---- what it should give ----

/** -1: a is better. NaN is best, -0 equals +0. */
const byScore = (a: number, b: number): number =>
  Number.isNaN(a) || Number.isNaN(b) ? Number(Number.isNaN(b)) - Number(Number.isNaN(a)) : a === b ? 0 : a > b ? -1 : 1

export function naiveTopK(row: ArrayLike<number>, k: number, order: 'position' | 'score'): Int32Array {
  const positions = Array.from(row, (_, i) => i).sort((i, j) => byScore(row[i]!, row[j]!) || i - j).slice(0, k)
  return Int32Array.from(order === 'score' ? positions : positions.sort((i, j) => i - j))
}
export const naivePool = (row: Float32Array, size: number): Float32Array => row.map((_, i) => {
  const near = row.slice(Math.max(0, i - (size - 1) / 2), i + (size + 1) / 2)
  return near.reduce((a, b) => (Number.isNaN(a) || Number.isNaN(b) ? NaN : Math.max(a, b)), -Infinity)
})

const bits = new Uint32Array(1), float = new Float32Array(bits.buffer)
/** The upper half: rounded toward zero, which is enough for data. */
export const bf16Bits = (x: number): number => { float[0] = x; return bits[0]! >>> 16 }
/** A bf16's bits as the number. */
export const fromBf16 = (x: number): number => { bits[0] = x << 16; return float[0]! }

// ---- running ----

export const orders = ['ascending', 'descending', 'warp-greedy', 'warp-greedy-descending', 'random:7'] as const

export interface Bench extends Disposable {
  /** One row per entry of `rows`; a copy of the row's positions per order of threads. */
  run(f: Form, rows: readonly (Float32Array | Uint16Array)[], k: number, threadOrders?: readonly string[]): Int32Array[][]
}

export async function openBench(forms: readonly Form[], change: (text: string) => string = t => t): Promise<Bench> {
  const kernels = new Map(forms.map(f => [f.name, selectKernels(f).map(kernel => ({ kernel, emitted: emit(kernel) }))] as const))
  const texts: EmittedKernel[] = [...kernels.values()].flat().map(x => ({ ...x.emitted, text: change(x.emitted.text) }))
  const image = await compileHost(sourceText(texts, 'host'), texts.map(t => t.name), { optimise: 1 })
  const opened = await openDevice('emulator', { noCache: true }), { device } = opened
  const module = device.load(image)
  return {
    run(f, rows, k, threadOrders = orders) {
      const length = rows[0]!.length, sizes: Sizes = { row: rows.length, key: length, k }
      const flat = rows[0] instanceof Float32Array ? new Float32Array(rows.length * length) : new Uint16Array(rows.length * length)
      rows.forEach((row, i) => flat.set(row, i * length))
      using input = device.alloc(Math.max(1, flat.byteLength), 'votes')
      using output = device.alloc(Math.max(4, rows.length * k * 4), 'positions')
      if (length > 0) device.upload(input, flat)
      using between = new DisposableBuffers(device)
      return threadOrders.map(order => {
        process.env['WEFT_EMULATOR_ORDER'] = order
        const found = new Int32Array(Math.max(1, rows.length * k)).fill(-1)
        device.upload(output, found)
        for (const { kernel, emitted } of kernels.get(f.name)!) {
          const blocks = kernel.grid.reduce((n, g) => n * ix.evaluate(g.blocks, sizes), 1)
          const symbols = kernel.symbols.map(s => ({ kind: 'i32' as const, value: sizes[s]! }))
          const buffer = (m: Memory): DeviceBuffer => (m.role === 'input' ? input : m.role === 'output' ? output : between.of(m, sizes))
          if (blocks > 0) device.launch(module.kernel(kernel.name), { grid: [blocks, 1, 1], block: kernel.threads, shared: emitted.sharedBytes }, [...kernel.inputs.map(buffer), ...kernel.outputs.map(buffer), ...symbols])
        }
        device.synchronise()
        device.downloadSync(output, found)
        return rows.map((_, i) => found.slice(i * k, (i + 1) * k))
      })
    },
    [Symbol.dispose]() { delete process.env['WEFT_EMULATOR_ORDER']; opened[Symbol.dispose]() },
  }
}

/** What one kernel leaves for another. */
class DisposableBuffers implements Disposable {
  private readonly buffers = new Map<string, DeviceBuffer>()
  constructor(private readonly device: DriverDevice) {}
  of(m: Memory, sizes: Sizes): DeviceBuffer {
    const known = this.buffers.get(m.name)
    if (known !== undefined) return known
    const bytes = m.axes.reduce((n, a) => n * evaluateSize(a.size as Size, sizes), byteSize[m.dtype])
    const made = this.device.alloc(Math.max(16, bytes), m.name)
    this.device.fill(made, 0xa5)
    this.buffers.set(m.name, made)
    return made
  }
  [Symbol.dispose](): void { for (const b of this.buffers.values()) b[Symbol.dispose]() }
}
