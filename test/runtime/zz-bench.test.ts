import { test } from 'vitest'
import { rmSync } from 'node:fs'
import { openEmulator, cacheDir, freshDir } from './emulator-driver.js'
import { buildEmulatorLibrary, compileHost } from '../../src/runtime/emulator/compile.js'
import { preludeText } from '../../src/codegen/intrinsics.js'

const text = `
extern "C" __global__ void reads(Global<const f32> a, Global<f32> out, i32 n) {
  f32 s0 = 0, s1 = 0, s2 = 0, s3 = 0;
  for (i32 r = 0; r < 1000; ++r)
    for (i32 i = 0; i < n; i += 4) { s0 += a[i]; s1 += a[i + 1]; s2 += a[i + 2]; s3 += a[i + 3]; }
  out[blockIdx.x * blockDim.x + threadIdx.x] = s0 + s1 + s2 + s3;
}
extern "C" __global__ void sharedReads(Global<f32> out, i32 n) {
  Shared<f32, 1024> tile = sharedAt<f32, 1024>(0);
  for (i32 i = threadIdx.x; i < 1024; i += blockDim.x) tile[i] = 1.f;
  blockBarrier();
  f32 s0 = 0, s1 = 0, s2 = 0, s3 = 0;
  for (i32 r = 0; r < 1000; ++r)
    for (i32 i = 0; i < 1024; i += 4) { s0 += tile[i]; s1 += tile[i + 1]; s2 += tile[i + 2]; s3 += tile[i + 3]; }
  out[blockIdx.x * blockDim.x + threadIdx.x] = s0 + s1 + s2 + s3;
}
extern "C" __global__ void gemm(Global<const f32> a, Global<const f32> b, Global<f32> c, i32 n) {
  const i32 row = blockIdx.x, col = threadIdx.x;
  f32 s = 0;
  for (i32 k = 0; k < n; ++k) s = multiplyAdd(a[i64(row) * n + k], b[i64(k) * n + col], s);
  c[i64(row) * n + col] = s;
}
extern "C" __global__ void copy(Global<const f32> a, Global<f32> b) { const i32 i = blockIdx.x * blockDim.x + threadIdx.x; b[i] = a[i]; }
extern "C" __global__ void barriers(i32 n) { for (i32 i = 0; i < n; ++i) blockBarrier(); }
extern "C" __global__ void shuffles(Global<f32> out, i32 n) { f32 x = threadIdx.x; for (i32 i = 0; i < n; ++i) x += shuffleXor(x, 1); out[0] = x; }
`
test('bench', async () => {
  const emu = await openEmulator()
  const k = await emu.compile(text, ['blockBarrier', 'shuffleXor', 'multiplyAdd'])
  const time = (name: string, f: () => void, work: number, unit: string) => {
    f(); emu.must('cuCtxSynchronize')
    const stats = new BigUint64Array(3); emu.call('weftEmulatorStatistics', stats); const s0 = stats[2]!
    const t = performance.now(); f(); emu.must('cuCtxSynchronize'); const ms = performance.now() - t
    emu.call('weftEmulatorStatistics', stats)
    console.log(`${name}: ${ms.toFixed(2)} ms, ${(work / ms / 1e3).toFixed(1)} M ${unit}/s, switches ${stats[2]! - s0} = ${(Number(stats[2]! - s0) / ms / 1e3).toFixed(1)} M/s`)
  }
  const a = emu.upload(new Float32Array(1 << 20)), b = emu.out('cuMemAlloc_v2', 4 << 20)
  time('reads 1 block', () => emu.launch(k('reads'), { block: 32 }, a, b, { i32: 1024 }), 32 * 1024 * 1000, 'accesses')
  time('reads 2 block', () => emu.launch(k('reads'), { grid: 2, block: 32 }, a, b, { i32: 1024 }), 2 * 32 * 1024 * 1000, 'accesses')
  time('shared 1 block', () => emu.launch(k('sharedReads'), { block: 32, shared: 4096 }, b, { i32: 1024 }), 32 * 1024 * 1000, 'accesses')
  time('gemm', () => emu.launch(k('gemm'), { grid: 512, block: 512 }, a, a, b, { i32: 512 }), 512 ** 3, 'MAC')
  time('copy 1M', () => emu.launch(k('copy'), { grid: 4096, block: 256 }, a, b), 1 << 20, 'threads')
  time('barriers 1 block 1024', () => emu.launch(k('barriers'), { block: 1024 }, { i32: 1000 }), 1024 * 1000, 'barrier')
  time('barriers 1 block 128', () => emu.launch(k('barriers'), { block: 128 }, { i32: 8000 }), 1024 * 1000, 'barrier')
  time('shuffles 1 block 128', () => emu.launch(k('shuffles'), { block: 128 }, b, { i32: 8000 }), 1024 * 1000, 'shuffle')
  time('shuffles 8 block 1024', () => emu.launch(k('shuffles'), { grid: 8, block: 1024 }, b, { i32: 1000 }), 8 * 1024 * 1000, 'shuffle')
  time('empty launches', () => { for (let i = 0; i < 1000; i++) emu.launch(k('barriers'), { block: 32 }, { i32: 0 }) }, 1000, 'launches')
  time('sync launches', () => { for (let i = 0; i < 1000; i++) { emu.launch(k('barriers'), { block: 32 }, { i32: 0 }); emu.must('cuCtxSynchronize') } }, 1000, 'launches')
  const dir = freshDir()
  let t = performance.now(); await buildEmulatorLibrary(dir); console.log('library', (performance.now() - t).toFixed(0))
  const small = preludeText([], 'host') + 'extern "C" __global__ void copy(Global<const f32> a, Global<f32> b) { b[threadIdx.x] = a[threadIdx.x]; }'
  t = performance.now(); await compileHost(small, ['copy'], { cacheDir: dir }); console.log('first small with pch', (performance.now() - t).toFixed(0))
  for (const o of [0, 1, 2] as const) { await compileHost(small, ['copy'], { cacheDir: dir, optimise: o }); t = performance.now(); await compileHost(small, ['copy'], { cacheDir: dir, optimise: o }); console.log(`small -O${o}`, (performance.now() - t).toFixed(0)) }
  t = performance.now(); await compileHost(preludeText(['blockBarrier', 'shuffleXor', 'multiplyAdd'], 'host') + text, ['reads', 'sharedReads', 'gemm', 'copy', 'barriers', 'shuffles'], { cacheDir: dir }); console.log('this file', (performance.now() - t).toFixed(0))
  rmSync(dir, { recursive: true })
})
