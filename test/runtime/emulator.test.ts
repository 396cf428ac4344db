/** What correct kernels compute on the emulator, and that no order of threads changes a bit of it. */
import { beforeAll, describe, expect, test } from 'vitest'
import { allOrders, noCompiler, openEmulator, type Emulator } from './emulator-driver.js'

const kernels = `
extern "C" __global__ void add(Global<const f32> a, Global<const f32> b, Global<f32> c, i32 n) {
  const i32 i = blockIdx.x * blockDim.x + threadIdx.x;
  if (i < n) c[i] = a[i] + b[i];
}

extern "C" __global__ void __launch_bounds__(256) blockSum(Global<const f32> values, Global<f32> sums, i32 n) {
  Shared<f32, 8> partial = sharedAt<f32, 8>(0);
  const i32 lane = threadIdx.x % 32, warp = threadIdx.x / 32;
  f32 sum = 0.f;
  for (i64 i = i64(blockIdx.x) * 256 + threadIdx.x; i < n; i += i64(gridDim.x) * 256) sum += values[i];
  for (i32 mask = 16; mask > 0; mask /= 2) sum += shuffleXor(sum, mask);
  if (lane == 0) partial[warp] = sum;
  blockBarrier();
  if (warp == 0) {
    f32 all = lane < 8 ? f32(partial[lane]) : 0.f;
    for (i32 mask = 4; mask > 0; mask /= 2) all += shuffleXor(all, mask);
    if (lane == 0) sums[blockIdx.x] = all;
  }
}

extern "C" __global__ void transpose(Global<const f32> from, Global<f32> to, i32 rows, i32 columns) {
  Shared<f32, 33 * 32> tile = sharedAt<f32, 33 * 32>(0);
  i32 row = blockIdx.y * 32 + threadIdx.y, column = blockIdx.x * 32 + threadIdx.x;
  if (row < rows && column < columns) tile[threadIdx.y * 33 + threadIdx.x] = from[i64(row) * columns + column];
  blockBarrier();
  row = blockIdx.x * 32 + threadIdx.y, column = blockIdx.y * 32 + threadIdx.x;
  if (row < columns && column < rows) to[i64(row) * rows + column] = tile[threadIdx.x * 33 + threadIdx.y];
}

extern "C" __global__ void scan(Global<const u32> counts, Global<u32> before, Global<u32> total) {
  const Scan s = blockScan<256>(counts[threadIdx.x], sharedAt<u32, 32>(0));
  before[threadIdx.x] = s.before;
  if (threadIdx.x == 0) total[0] = s.total;
}

extern "C" __global__ void histogram(Global<const u32> keys, Global<u32> counts, i32 n) {
  Shared<u32, 64> bins = sharedAt<u32, 64>(0);
  if (threadIdx.x < 64) bins[threadIdx.x] = 0;
  blockBarrier();
  for (i32 i = threadIdx.x; i < n; i += blockDim.x) fetchAdd(bins, keys[i] % 64, 1);
  blockBarrier();
  if (threadIdx.x < 64) counts[threadIdx.x] = bins[threadIdx.x];
}

extern "C" __global__ void votes(Global<const i32> values, Global<u32> masks, Global<u32> anyNegative) {
  const u32 mask = ballot(values[threadIdx.x] > 0);
  if (threadIdx.x % 32 == 0) masks[threadIdx.x / 32] = mask;
  const bool any = blockAny(values[threadIdx.x] < 0);
  anyNegative[threadIdx.x] = any;
  anyNegative[threadIdx.x] += blockAny(false);
}

extern "C" __global__ void vectors(Global<const f32> from, Global<f32> to) {
  Shared<f32, 128> tile = sharedAt<f32, 128>(16);
  storeVector(tile + threadIdx.x * 4, loadVector<4>(from + threadIdx.x * 4));
  blockBarrier();
  Vector<f32, 4> v = loadVector<4>(&tile[(31 - threadIdx.x) * 4]);
  for (i32 i = 0; i < 4; ++i) v.at[i] *= 2.f;
  Global<f32> at = to + 4;
  at += i64(threadIdx.x) * 4 - 4;
  storeVector(at, v);
}

extern "C" __global__ void select(Global<f32> out) { out[threadIdx.x] = expf(f32(threadIdx.x)); }
extern "C" __global__ void exp(Global<f32> out) { out[blockIdx.z] = f32(blockIdx.x + 10 * blockIdx.y + 100 * blockIdx.z); }
`

const uses = ['shuffleXor', 'blockBarrier', 'blockAny', 'ballot', 'blockScan', 'fetchAdd', 'loadVector', 'storeVector'] as const

describe.skipIf(noCompiler)('the emulator runs correct kernels', () => {
  let emu: Emulator
  let kernel: (name: string) => bigint
  beforeAll(async () => {
    emu = await openEmulator()
    kernel = await emu.compile(kernels, uses)
  })

  test('vector addition, with a last block that is not full', () => {
    const n = 100_003
    const a = Float32Array.from({ length: n }, (_, i) => i / 3), b = Float32Array.from({ length: n }, (_, i) => 1 / (i + 1))
    const c = emu.out('cuMemAlloc_v2', 4 * n)
    emu.launch(kernel('add'), { grid: Math.ceil(n / 256), block: 256 }, emu.upload(a), emu.upload(b), c, { i32: n })
    const expected = a.map((x, i) => Math.fround(x + b[i]!))
    expect(emu.download(c, new Float32Array(n))).toEqual(expected)
  })

  test('the device and its properties', () => {
    const cell = new Int32Array(1)
    const name = Buffer.alloc(64)
    emu.must('cuDeviceGetName', name, 64, 0)
    expect(name.toString('utf8').replace(/\0.*$/s, '')).toBe('Weft emulator')
    for (const [attribute, value] of [[10, 32], [1, 1024], [8, 49152], [97, 232448], [75, 9], [16, emu.call('weftEmulatorWorkers')]]) {
      emu.must('cuDeviceGetAttribute', cell, attribute, 0)
      expect(cell[0]).toBe(value)
    }
    emu.must('cuDriverGetVersion', cell)
    expect(cell[0]).toBe(13000)
    const text = new BigUint64Array(1)
    emu.must('cuGetProcAddress_v2', 'cuMemAlloc', text, 13000, 0n, null)
    expect(text[0]).not.toBe(0n)
  })

  test('thread and block indices in three dimensions', () => {
    const out = emu.upload(new Float32Array(3))
    emu.launch(kernel('exp'), { grid: [2, 1, 3], block: 1 }, out)   // the last block of each z is not fixed: x is 0 or 1
    const got = emu.download(out, new Float32Array(3))
    got.forEach((x, z) => expect([100 * z, 100 * z + 1]).toContain(x))
  })

  test('a kernel may have the name of a C function', () => {
    const out = emu.upload(new Float32Array(4))
    emu.launch(kernel('select'), { block: 4 }, out)
    expect([...emu.download(out, new Float32Array(4))]).toEqual([0, 1, 2, 3].map((x) => Math.fround(Math.exp(x))))
  })

  // Each program returns its result's bytes; expected values where they are exact
  const programs: Record<string, (emu: Emulator) => Uint8Array> = {
    'block reduction with shuffles': () => {
      const n = 70_001
      const values = emu.upload(Float32Array.from({ length: n }, (_, i) => Math.sin(i) * 1e3))
      const sums = emu.out('cuMemAlloc_v2', 4 * 7)
      emu.launch(kernel('blockSum'), { grid: 7, block: 256, shared: 32 }, values, sums, { i32: n })
      return emu.download(sums, new Uint8Array(28))
    },
    'transposition through a shared tile': () => {
      const rows = 45, columns = 70
      const from = Float32Array.from({ length: rows * columns }, (_, i) => i)
      const to = emu.out('cuMemAlloc_v2', 4 * rows * columns)
      emu.launch(kernel('transpose'), { grid: [3, 2, 1], block: [32, 32, 1], shared: 33 * 32 * 4 }, emu.upload(from), to, { i32: rows }, { i32: columns })
      const result = emu.download(to, new Float32Array(rows * columns))
      expect(result).toEqual(Float32Array.from(from, (_, i) => from[(i % rows) * columns + Math.floor(i / rows)]!))
      return new Uint8Array(result.buffer)
    },
    'block scan': () => {
      const counts = Uint32Array.from({ length: 256 }, (_, i) => (i * 7919) % 13)
      const before = emu.out('cuMemAlloc_v2', 1024), total = emu.out('cuMemAlloc_v2', 4)
      emu.launch(kernel('scan'), { block: 256, shared: 128 }, emu.upload(counts), before, total)
      let sum = 0
      const expected = counts.map((n) => (sum += n) - n)
      const result = emu.download(before, new Uint32Array(256))
      expect(result).toEqual(expected)
      expect(emu.download(total, new Uint32Array(1))[0]).toBe(sum)
      return new Uint8Array(result.buffer)
    },
    histogram: () => {
      const n = 5000
      const keys = Uint32Array.from({ length: n }, (_, i) => (i * i) >>> 0)
      const counts = emu.out('cuMemAlloc_v2', 256)
      emu.launch(kernel('histogram'), { block: 512, shared: 256 }, emu.upload(keys), counts, { i32: n })
      const expected = new Uint32Array(64)
      for (const key of keys) expected[key % 64]! += 1
      const result = emu.download(counts, new Uint32Array(64))
      expect(result).toEqual(expected)
      return new Uint8Array(result.buffer)
    },
    'ballots and barriers with a vote': () => {
      const values = Int32Array.from({ length: 96 }, (_, i) => (i === 77 ? -1 : i % 3))
      const masks = emu.out('cuMemAlloc_v2', 12), any = emu.out('cuMemAlloc_v2', 4 * 96)
      emu.launch(kernel('votes'), { block: 96 }, emu.upload(values), masks, any)
      const got = emu.download(masks, new Uint32Array(3))
      for (let i = 0; i < 96; i++) expect((got[i >> 5]! >>> (i & 31)) & 1).toBe(values[i]! > 0 ? 1 : 0)
      expect([...emu.download(any, new Uint32Array(96))]).toEqual(Array(96).fill(1))
      return new Uint8Array(got.buffer)
    },
    'vectors to and from shared memory': () => {
      const from = Float32Array.from({ length: 128 }, (_, i) => i)
      const to = emu.out('cuMemAlloc_v2', 512)
      emu.launch(kernel('vectors'), { block: 32, shared: 528 }, emu.upload(from), to)
      const result = emu.download(to, new Float32Array(128))
      expect(result).toEqual(Float32Array.from(from, (_, i) => 2 * from[(31 - (i >> 2)) * 4 + (i & 3)]!))
      return new Uint8Array(result.buffer)
    },
  }
  test.each(Object.entries(programs))('%s: bitwise the same under every order', (_, program) => {
    const results = allOrders.map((order) => {
      emu.setOrder(order)
      return program(emu)
    })
    for (const result of results) expect(result).toEqual(results[0])
  })

  test('none of them has a race', async () => {
    const plain = kernel
    kernel = await emu.compile(kernels, uses, { races: true })
    try {
      for (const order of ['ascending', 'random:4']) {
        emu.setOrder(order)
        for (const program of Object.values(programs)) program(emu)
      }
    } finally {
      kernel = plain
    }
  })

  test('the reduction is the sum, added in this order', () => {
    const n = 256
    const values = Float32Array.from({ length: n }, (_, i) => i + 0.5)
    const sums = emu.out('cuMemAlloc_v2', 4)
    emu.launch(kernel('blockSum'), { block: 256, shared: 32 }, emu.upload(values), sums, { i32: n })
    expect(emu.download(sums, new Float32Array(1))[0]).toBe(256 * 128)
  })

  test('a fault that is not a kernel\'s goes to V8, which makes it an error of WebAssembly', () => {
    const code = [0, 0x61, 0x73, 0x6d, 1, 0, 0, 0, 1, 6, 1, 0x60, 1, 0x7f, 1, 0x7f, 3, 2, 1, 0, 5, 3, 1, 0, 1, 7, 5, 1, 1, 0x66, 0, 0,
      0x0a, 9, 1, 7, 0, 0x20, 0, 0x28, 2, 0, 0x0b]   // f(address) loads from one page of memory
    const { WebAssembly } = globalThis as unknown as { WebAssembly: { Module: new (code: Uint8Array) => object; Instance: new (module: object) => { exports: { f(address: number): number } } } }
    const { f } = new WebAssembly.Instance(new WebAssembly.Module(Uint8Array.from(code))).exports
    expect(f(8)).toBe(0)
    expect(() => f(70_000)).toThrow('memory access out of bounds')
  })

  test('an unknown order is refused', () => {
    expect(emu.call('weftEmulatorSetOrder', 'sideways')).toBe(1)
    expect(emu.call('weftEmulatorSetOrder', 'random:')).toBe(1)
    expect(emu.call('weftEmulatorSetOrder', '')).toBe(0)
  })

  test.each([0, 1, 2] as const)('-O%i gives the same', async (optimise) => {
    const get = await emu.compile(kernels, uses, { optimise })
    const n = 1000
    const values = emu.upload(Float32Array.from({ length: n }, (_, i) => Math.cos(i)))
    const sums = [kernel, get].map((from) => {
      const out = emu.out('cuMemAlloc_v2', 4)
      emu.launch(from('blockSum'), { block: 256, shared: 32 }, values, out, { i32: n })
      return emu.download(out, new Uint32Array(1))[0]
    })
    expect(sums[1]).toBe(sums[0])
  })
})
