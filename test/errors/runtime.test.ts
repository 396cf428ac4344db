/** Every complaint of the runtime, as people read it: what failed, where, why, and what to do about it. */
import { mkdtempSync, readFileSync, readdirSync, rmSync, writeFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { fileURLToPath } from 'node:url'
import ts from 'typescript'
import { afterAll, describe, expect, test, vi } from 'vitest'
import { add, tensor, WeftError } from '../../src/dsl/index.js'
import { openDevice, parseDeviceSpec, type DeviceSpec } from '../../src/runtime/devices.js'
import { compileHost, findHostCompiler } from '../../src/runtime/emulator/compile.js'
import { CompileError, CudaError, NvrtcError } from '../../src/runtime/errors.js'
import { loadFfiNapi } from '../../src/runtime/ffi/ffi-napi.js'
import { defaultFfi, openLibrary } from '../../src/runtime/ffi/index.js'
import { mockFfi, MockLibrary, MockMemory } from '../../src/runtime/ffi/mock.js'
import { driverTable } from '../../src/runtime/ffi/table.js'
import { hostTensor, inOrder } from '../../src/runtime/host-tensor.js'
import { openHostCompiler } from '../../src/runtime/host-compiler.js'
import { targetFor } from '../../src/runtime/nvrtc.js'
import { compile, type CompileOptions, type Input } from '../../src/runtime/program.js'
import { parseSafetensors, readSafetensors, writeSafetensors } from '../../src/runtime/safetensors.js'
import { image, shape, start } from '../runtime/mock-device.js'
import { machine, nvrtcNames, type Machine } from '../runtime/mock-machine.js'

const folder = mkdtempSync(join(tmpdir(), 'weft-errors-'))
afterAll(() => { rmSync(folder, { recursive: true, force: true }) })
/** For calls that TypeScript refuses. */
const any = (x: unknown): never => x as never

const noCompiler = 'missing' in findHostCompiler() && process.env['CI'] !== 'true'
if (noCompiler) console.warn('SKIPPED: what the emulator complains of. There is no C++ compiler. Fix: install g++')

const codes = new Set<string>()
async function complaint(work: () => unknown): Promise<string> {
  try {
    await work()
  } catch (error) {
    if (!(error instanceof WeftError)) throw error
    codes.add(error.code)
    expect(error.fix).toBeTruthy()
    return `[${error.code}] ${error.message.replaceAll(folder, 'FOLDER')}`
  }
  throw new Error('no complaint')
}
const complaints = async (...works: readonly (() => unknown)[]): Promise<string> => {
  const all: string[] = []
  for (const work of works) all.push(await complaint(work))
  return all.join('\n\n')
}
const opening = (description: Machine = {}, spec?: DeviceSpec, change: (at: ReturnType<typeof machine>) => void = () => {}) => async (): Promise<void> => {
  const at = machine(description)
  change(at)
  using _ = await openDevice(spec ?? 'cuda', at)
}

const x = tensor('x', 'f32', ['r', 'n']), outputs = { y: add(x, 1) }
const good = { dtype: 'f32', axes: ['r', 'n'], shape: [2, 3], data: new Float32Array(6) } as const
const on = (given: unknown, options: CompileOptions & { readonly sizes?: Record<string, number> } = { device: 'reference' }) => async (): Promise<void> => {
  using program = await compile(outputs, options)
  await program.run(given as Record<string, Input>, options.sizes === undefined ? {} : { sizes: options.sizes })
}

describe('opening a device', () => {
  test('names', async () => {
    expect(await complaints(() => parseDeviceSpec('gpu'), () => parseDeviceSpec('reference'))).toMatchInlineSnapshot(`
      "[device-spec] 'gpu' names no device
        fix: use 'cuda', 'cuda:1' or 'emulator'

      [device-spec] 'reference' is the interpreter: it is no device that can be opened
        fix: compile(outputs, { device: 'reference' }) runs a program on it"
    `)
  })
  test('what the machine lacks', async () => {
    expect(await complaints(
      opening({ libcuda: false }), opening({ nvrtc: undefined }), opening({ devices: 0 }), opening({}, 'cuda:1'), opening({ devices: 2 }, 'cuda:7'),
      opening({}, 'cuda', at => at.driver.library.fail('cuInit', 803)), opening({}, 'cuda', at => at.driver.library.fail('cuDevicePrimaryCtxRetain', 46)),
      opening({}, 'cuda', at => at.driver.library.fail('cuDeviceGetName', 304)), opening({}, 'cuda', at => at.nvrtcLibrary.fail('nvrtcVersion', 11)),
    )).toMatchInlineSnapshot(`
      "[no-driver] libcuda was not found, so no GPU can be used. Places tried, in order:
          libcuda.so.1: absent [the system's loader]
          /usr/lib/x86_64-linux-gnu: absent [the distribution's folders]
          /usr/lib64: absent [the distribution's folders]
          /usr/lib: absent [the distribution's folders]
          /lib/x86_64-linux-gnu: absent [the distribution's folders]
          /usr/local/nvidia/lib64: absent [container runtime]
          /usr/lib/wsl/lib: absent [WSL]
        fix: install NVIDIA's driver, or set WEFT_LIBCUDA to the path of libcuda.so.1. The emulator and the reference device still work (--device emulator)

      [no-nvrtc] NVRTC was not found, so no kernel can be compiled for a GPU. Places tried, in order:
          /pkg/.weft: absent [npm run setup:nvrtc]
          /here/.weft: absent [npm run setup:nvrtc]
          libnvrtc.so.13: absent [the system's loader]
          libnvrtc.so.12: absent [the system's loader]
          /usr/local/cuda/lib64: absent [CUDA toolkit]
          /usr/local/cuda/lib: absent [CUDA toolkit]
          /usr/local/cuda/targets/x86_64-linux/lib: absent [CUDA toolkit]
          /opt/cuda/lib64: absent [CUDA toolkit]
          /opt/cuda/lib: absent [CUDA toolkit]
          /opt/cuda/targets/x86_64-linux/lib: absent [CUDA toolkit]
          /usr/lib/x86_64-linux-gnu: absent [the distribution's folders]
          /usr/lib64: absent [the distribution's folders]
          /usr/lib: absent [the distribution's folders]
          /lib/x86_64-linux-gnu: absent [the distribution's folders]
        fix: npm run setup:nvrtc (58 MB, needs no GPU), or set WEFT_NVRTC to the path of libnvrtc.so.12 or .13. The emulator and the reference device still work (--device emulator)

      [driver-init] the driver in libcuda.so.1 does not start: cuInit failed (cuda:0): CUDA_ERROR_NO_DEVICE (100), no CUDA-capable device is detected
        fix: no CUDA device is visible: look at CUDA_VISIBLE_DEVICES and \`nvidia-smi\`, or use --device emulator

      [no-device] there is no device cuda:1: the driver shows 1 device
        fix: use cuda:0

      [no-device] there is no device cuda:7: the driver shows 2 devices
        fix: use cuda:0 to cuda:1

      [driver-init] the driver in libcuda.so.1 does not start: cuInit failed (cuda:0): CUDA_ERROR_SYSTEM_DRIVER_MISMATCH (803), system has unsupported display driver / cuda driver combination
        fix: a \`cuda/compat\` folder comes before the driver of the host: remove it from LD_LIBRARY_PATH

      [device-open] cuda:0 cannot be opened: cuDevicePrimaryCtxRetain failed (cuda:0 Mock GPU 0): CUDA_ERROR_DEVICE_UNAVAILABLE (46), CUDA-capable device(s) is/are busy or unavailable
        fix: the device is in exclusive mode and another process holds it: end that process, or \`nvidia-smi -c 0\`

      [cuda] cuDeviceGetName failed (cuda:0): CUDA_ERROR_OPERATING_SYSTEM (304), OS call failed or operation not supported on this OS
        fix: the operating system refused something to the driver: look at \`dmesg\`, at the rights of /dev/nvidia* and at the limits of memory

      [nvrtc] nvrtcVersion failed (libnvrtc.so.13): NVRTC_ERROR_INTERNAL_ERROR (11)
        fix: NVRTC itself went wrong: use another version with WEFT_NVRTC (npm run setup:nvrtc fetches one)"
    `)
  })
  test('without a GPU and without a compiler', async () => {
    vi.stubEnv('CXX', '/nowhere/g++')
    expect(await complaints(() => openHostCompiler(), () => compileHost('', []), async () => {
      const at = machine({ libcuda: false })
      using _ = await openDevice(undefined, at)
    })).toMatchInlineSnapshot(`
      "[host-compiler-missing] No C++ compiler: looked for /nowhere/g++ in PATH (CXX names it).
        fix: install one (Debian and Ubuntu: apt install g++; Fedora: dnf install gcc-c++) or name one in CXX

      [host-compiler-missing] No C++ compiler: looked for /nowhere/g++ in PATH (CXX names it).
        fix: install one (Debian and Ubuntu: apt install g++; Fedora: dnf install gcc-c++) or name one in CXX

      [no-device] no device can run kernels.
        cuda: libcuda was not found, so no GPU can be used. Places tried, in order:
          libcuda.so.1: absent [the system's loader]
          /usr/lib/x86_64-linux-gnu: absent [the distribution's folders]
          /usr/lib64: absent [the distribution's folders]
          /usr/lib: absent [the distribution's folders]
          /lib/x86_64-linux-gnu: absent [the distribution's folders]
          /usr/local/nvidia/lib64: absent [container runtime]
          /usr/lib/wsl/lib: absent [WSL]
        emulator: No C++ compiler: looked for /nowhere/g++ in PATH (CXX names it).
        fix: install g++ for the emulator; the reference device needs nothing (--device reference)"
    `)
    vi.unstubAllEnvs()
  })
  test('libraries and FFI packages', async () => {
    const ffi = mockFfi({ 'libcuda.so': new MockLibrary({}) }, new MockMemory())
    expect(await complaints(
      () => openLibrary(ffi, 'the CUDA driver', '/lib/none.so', driverTable),
      () => openLibrary(ffi, 'the CUDA driver', 'libcuda.so', driverTable).functions.cuInit(0),
      () => start().device.wrapStream(any('main')).idle(), () => defaultFfi({ WEFT_FFI: 'node-ffi' }), () => loadFfiNapi(join(folder, 'nothing.js')),
    ).then(all => all.replace(/Cannot find module[^\n]*/, 'Cannot find module ...'))).toMatchInlineSnapshot(`
      "[library-load] the CUDA driver cannot be loaded from /lib/none.so: /lib/none.so: cannot open shared object file: No such file or directory
        fix: \`weft doctor\` lists every place tried and why it was passed over

      [library-symbol] the CUDA driver (libcuda.so) has no function cuInit
        fix: it is too old, or not the library it is taken for: \`weft doctor\` shows which file was chosen

      [ffi-argument] cuStreamQuery argument 1 (stream: pointer) must be an address as BigInt (0n is NULL), got "main"
        fix: an argument that was passed on to the driver is wrong; if none of them is yours, it is a defect of Weft: report it

      [ffi-package] WEFT_FFI=node-ffi names no FFI package that Weft knows
        fix: use koffi or ffi-napi

      [ffi-package] WEFT_FFI=ffi-napi: Cannot find module ...
        fix: npm install @2060.io/ffi-napi @2060.io/ref-napi (needs a C++ toolchain and Python), or unset WEFT_FFI to use koffi"
    `)
  })
})

describe('using a device', () => {
  test('memory', async () => {
    const { driver, device } = start({ memory: 4096 }), buffer = device.alloc(1024, 'scores')
    device.alloc(2048, 'keys')
    expect(await complaints(
      () => device.alloc(2000, 'values'), () => { driver.library.fail('cuMemGetInfo_v2', 1); device.alloc(2000, 'values') }, () => device.alloc(-1, 'values'),
      () => device.upload(buffer, new Uint8Array(2000)), () => device.downloadSync(buffer, new Uint8Array(2000)), () => device.fill(buffer, 256),
      () => { buffer.free(); device.upload(buffer, new Uint8Array(4)) }, () => buffer.free(), () => buffer.pointer, () => device.event().done(),
    )).toMatchInlineSnapshot(`
      "[out-of-memory] cuMemAlloc_v2 failed (cuda:0 Mock GPU 0): CUDA_ERROR_OUT_OF_MEMORY (2), out of device memory: needed 2.0 KiB, free 1.0 KiB of 4.0 KiB; largest buffers alive: keys 2.0 KiB, scores 1.0 KiB
        fix: free buffers (dispose), lower the batch or the number of heads per call, then try again: the device is still usable

      [out-of-memory] cuMemAlloc_v2 failed (cuda:0 Mock GPU 0): CUDA_ERROR_OUT_OF_MEMORY (2), out of device memory: needed 2.0 KiB; largest buffers alive: keys 2.0 KiB, scores 1.0 KiB
        fix: free buffers (dispose), lower the batch or the number of heads per call, then try again: the device is still usable

      [buffer-size] buffer "values": -1 is not a number of bytes
        fix: give a whole number from 0 on

      [buffer-size] upload to buffer "scores" of 1024 bytes: 2000 bytes do not fit
        fix: allocate a larger one, or pass a part of the array (subarray)

      [buffer-size] download from buffer "scores" of 1024 bytes: 2000 bytes do not fit
        fix: allocate a larger one, or pass a part of the array (subarray)

      [buffer-fill] fill buffer "scores" of 1024 bytes: 256 is not a byte
        fix: give a whole number from 0 to 255

      [use-after-free] upload to: buffer "scores" of 1024 bytes was freed before
        fix: free it after its last use; work on a stream is finished when \`await stream.done()\` returns

      [double-free] buffer "scores" of 1024 bytes was freed twice
        fix: free it once, or leave it to \`using\`

      [use-after-free] its address was asked for: buffer "scores" of 1024 bytes was freed before
        fix: free it after its last use; work on a stream is finished when \`await stream.done()\` returns

      [event-not-recorded] an event was waited for that was never recorded
        fix: event.record(stream) first"
    `)
  })
  test('kernels', async () => {
    const { device } = start(), kernel = device.load(image).kernel('scale'), launch = (change: object, args: readonly unknown[] = []) => () => device.launch(kernel, { ...shape, ...change }, any(args))
    expect(await complaints(
      () => device.load(image).kernel('votes'), launch({ grid: [0, 1, 1] }), launch({ grid: [1, 70_000, 1] }), launch({ block: 2048 }),
      launch({ shared: 300_000 }),
      launch({}, [{ kind: 'i32', value: 2 ** 31 }]), launch({}, [{ kind: 'pointer', value: 5 }]), launch({}, [undefined]),
    )).toMatchInlineSnapshot(`
      "[no-kernel] the module has no kernel votes
        fix: kernels are \`extern "C" __global__\`; compare the name with the text

      [launch-shape] kernel scale: a grid of 0 × 1 × 1 blocks has none: do not launch it
        fix: take another schedule; \`weft doctor\` shows the limits of this device

      [launch-shape] kernel scale: a grid of 1 × 70000 × 1 blocks is over 2147483647 × 65535 × 65535
        fix: take another schedule; \`weft doctor\` shows the limits of this device

      [launch-shape] kernel scale: 2048 threads per block are not 1 to 1024 (it uses 32 registers)
        fix: take another schedule; \`weft doctor\` shows the limits of this device

      [launch-shape] kernel scale: 300000 bytes of dynamic and 0 of static shared memory are over 232448 per block
        fix: take another schedule; \`weft doctor\` shows the limits of this device

      [kernel-argument] kernel scale: argument 1 does not fit i32: 2147483648
        fix: pass a buffer, a device pointer as BigInt, or { kind, value }

      [kernel-argument] kernel scale: argument 1 must be an address as BigInt, got 5
        fix: pass a buffer, a device pointer as BigInt, or { kind, value }

      [kernel-argument] kernel scale: argument 1 is undefined
        fix: pass a buffer, a device pointer as BigInt, or { kind, value }"
    `)
  })
  test('after its end', async () => {
    const { device } = start(), stream = device.stream(), event = device.event(), module = device.load(image), kernel = module.kernel('scale'), graph = device.capture(stream, () => {})
    for (const one of [graph, stream, event, module]) one[Symbol.dispose]()
    const program = await compile(outputs, { device: any({ device, compiler: { target: 'cuda' } }) })
    program[Symbol.dispose]()
    expect(await complaints(
      () => stream.idle(), () => event.record(device.defaultStream), () => graph.launch(device.defaultStream), () => device.launch(kernel, shape, []),
      () => module.kernel('scale'), () => program.prepare({ r: 1, n: 1 }),
      () => { device[Symbol.dispose](); device.alloc(1) },
    )).toMatchInlineSnapshot(`
      "[use-after-free] a stream was used: the stream was freed before
        fix: free it after its last use; work on a stream is finished when \`await stream.done()\` returns

      [use-after-free] an event was used: the event was freed before
        fix: free it after its last use; work on a stream is finished when \`await stream.done()\` returns

      [use-after-free] a graph was launched: the graph was freed before
        fix: free it after its last use; work on a stream is finished when \`await stream.done()\` returns

      [use-after-free] a kernel was used: the module of kernel scale was freed before
        fix: free it after its last use; work on a stream is finished when \`await stream.done()\` returns

      [use-after-free] kernel scale was asked for: the module was freed before
        fix: free it after its last use; work on a stream is finished when \`await stream.done()\` returns

      [use-after-free] it was prepared: the program was freed before
        fix: free it after its last use; work on a stream is finished when \`await stream.done()\` returns

      [use-after-free] a device was used: the device cuda:0 was freed before
        fix: free it after its last use; work on a stream is finished when \`await stream.done()\` returns"
    `)
  })
  test('calls that fail', async () => {
    const failing = (name: string, status: number, use: (device: ReturnType<typeof start>['device']) => unknown) => (): unknown => {
      const { driver, device } = start()
      driver.library.fail(name, status)
      return use(device)
    }
    expect(await complaints(
      failing('cuStreamCreate', 2, d => d.stream()), failing('cuModuleLoadData', 222, d => d.load(image)),
      failing('cuLaunchKernel', 701, d => d.launch(d.load(image).kernel('scale'), shape, [0n, 0n, { kind: 'i32', value: 1 }])),
      failing('cuCtxSynchronize', 700, d => { d.launch(d.load(image).kernel('scale'), shape, [0n, 0n, { kind: 'i32', value: 1 }]); d.synchronise() }),
      failing('cuCtxSynchronize', 719, d => d.synchronise()),
      () => { throw new CudaError('cuEventQuery', 700, 'CUDA_ERROR_ILLEGAL_ADDRESS', "an illegal memory access: kernel 'vote' ... reads index 10 of argument 0", 'emulator:0', true) },
    )).toMatchInlineSnapshot(`
      "[out-of-memory] cuStreamCreate failed (cuda:0 Mock GPU 0): CUDA_ERROR_OUT_OF_MEMORY (2), out of memory
        fix: free buffers (dispose), lower the batch or the number of heads per call, then try again: the device is still usable

      [cuda] cuModuleLoadData failed (cuda:0 Mock GPU 0): CUDA_ERROR_UNSUPPORTED_PTX_VERSION (222), the provided PTX was compiled with an unsupported toolchain.
        fix: the PTX is newer than the driver: set WEFT_NVRTC to an NVRTC not newer than the driver, or update the driver

      [cuda] cuLaunchKernel failed (cuda:0 Mock GPU 0; last kernel launched: scale): CUDA_ERROR_LAUNCH_OUT_OF_RESOURCES (701), too many resources requested for launch
        fix: too many registers or too much shared memory for one block: take a smaller tile or fewer warps

      [cuda] cuCtxSynchronize failed (cuda:0 Mock GPU 0; last kernel launched: scale): CUDA_ERROR_ILLEGAL_ADDRESS (700), an illegal memory access was encountered; the device cannot be used any more in this process
        fix: a kernel touched memory it does not own: run it with --device emulator, whose guard pages name the access; restart the process

      [cuda] cuCtxSynchronize failed (cuda:0 Mock GPU 0): CUDA_ERROR_LAUNCH_FAILED (719), unspecified launch failure; the device cannot be used any more in this process
        fix: a kernel crashed: run it with --device emulator to find out where; restart the process

      [cuda] cuEventQuery failed (emulator:0): CUDA_ERROR_ILLEGAL_ADDRESS (700), an illegal memory access: kernel 'vote' ... reads index 10 of argument 0; this device cannot be used any more
        fix: look at the access that the message names, and at the shapes of what was passed; dispose of this device, a newly opened one works"
    `)
  })
  test.skipIf(noCompiler)('the emulator’s orders', async () => {
    using opened = await openDevice('emulator')
    expect(await complaints(() => opened.emulator!.setOrder('sideways'))).toMatchInlineSnapshot(`
      "[emulator-order] the emulator knows no order 'sideways'
        fix: ascending, descending, warp-greedy, warp-greedy-descending or random:SEED"
    `)
  })
})

describe('compiling', () => {
  test('architectures and kernels', async () => {
    expect(await complaints(
      () => targetFor('sm90', [80, 90]), () => targetFor('sm_70', [75, 90]), () => targetFor('sm_130a', [80, 90]), () => compileHost('', ['no name']),
      () => { throw new CompileError('NVRTC 13.0 for sm_90 (5 options)', 'NVRTC_ERROR_COMPILATION', 'vote.cu(2): error: identifier "two" is undefined\n1 error detected\n', 'extern "C" __global__ void k() {\n  two;\n}') },
      ...[1, 5, 7].map(status => () => { throw new NvrtcError('nvrtcCompileProgram', status, nvrtcNames[status]!, 'for sm_90') }),
    )).toMatchInlineSnapshot(`
      "[arch] 'sm90' names no GPU architecture
        fix: write it like 'sm_90' or 'sm_90a'

      [arch-too-old] this NVRTC compiles for sm_75 and newer, not for sm_70
        fix: npm run setup:nvrtc -- --cuda 12, or set WEFT_NVRTC to an NVRTC of CUDA 12

      [arch-too-new] this NVRTC does not know sm_130a
        fix: use a newer NVRTC, or a schedule without architecture-specific instructions

      [kernel-name] 'no name' is no name for a kernel.
        fix: use letters, digits and underscores

      [compile] NVRTC 13.0 for sm_90 (5 options) refused a kernel: NVRTC_ERROR_COMPILATION
        line 2: two;
        vote.cu(2): error: identifier "two" is undefined
        1 error detected
        fix: this is a defect of Weft, unless the text is yours: report it with the line above and \`weft doctor --verbose\`

      [nvrtc] nvrtcCompileProgram failed (for sm_90): NVRTC_ERROR_OUT_OF_MEMORY (1)
        fix: the host has too little memory for another compilation: end other programs, or compile fewer kernels at a time

      [nvrtc] nvrtcCompileProgram failed (for sm_90): NVRTC_ERROR_INVALID_OPTION (5)
        fix: an option is unknown to this NVRTC: \`weft doctor\` shows its version; use another with WEFT_NVRTC

      [nvrtc] nvrtcCompileProgram failed (for sm_90): NVRTC_ERROR_BUILTIN_OPERATION_FAILURE (7)
        fix: libnvrtc-builtins of the same version must lie beside libnvrtc: npm run setup:nvrtc"
    `)
  })
  test.skipIf(noCompiler)('by the host’s compiler, in its own words', async () => {
    expect(await complaint(() => compileHost('extern "C" __global__ void k() { two; }\n', ['k']))).toMatch(
      /^\[host-compile\] The host's C\+\+ compiler refuses kernel k \(exit 1\):\n[^]*kernel\.cu:1:34: error: [^\n]*two[^]*\n {2}fix: this is a defect of Weft, unless the text is yours: report it with the lines above$/)
  })
})

describe('running a program', () => {
  test('inputs and outputs', async () => {
    const { device } = start(), opened = { device, compiler: { target: 'cuda' }, foundVia: '', warnings: [], emulator: undefined, [Symbol.dispose]: () => {} }
    using buffer = device.alloc(24), small = device.alloc(20)
    const there = { dtype: 'f32', axes: ['r', 'n'], shape: [2, 3], buffer }, withDevice = { device: any(opened) }
    expect(await complaints(
      on({ z: good }), on({ x: 5 }), on({ x: [1, 2] }), on({ x: { ...good, dtype: 'i32' } }), on({ x: { ...good, data: new Float64Array(6) } }),
      on({ x: { ...good, data: new Float32Array(5) } }),
      on({ x: { ...good, axes: undefined } }), on({ x: { ...good, axes: ['r'], shape: [6] } }),
      on({ x: { ...good, axes: ['r', 'n', 'q'], shape: [2, 3, 1] } }), on({ x: { ...good, axes: ['r', 'n', 'n'], shape: [2, 3, 1] } }),
      on({ x: { ...good, shape: [6] } }), on({ x: { ...good, shape: [1.5, 4] } }),
      on({ x: new Float32Array(5) }, { device: 'reference', sizes: { r: 2, n: 3 } }), on({ x: there }),
      on({ x: { ...there, axes: ['n', 'r'], shape: [3, 2] } }, withDevice), on({ x: { ...there, buffer: small } }, withDevice),
      on({ x: { ...there, buffer: {} } }, withDevice),
      async () => (await compile(outputs, { device: 'reference' })).run({ x: good }, { outputs: { z: buffer } }),
      async () => (await compile(outputs, { device: 'reference' })).launch({ x: good }),
      async () => (await compile(outputs, withDevice)).launch({ x: good }), () => hostTensor('f32', { a: 2 }, new Float32Array(3)),
      () => inOrder(hostTensor('f32', { a: 2 }), ['b']),
    )).toMatchInlineSnapshot(`
      "[input] the program has no input 'z'
        fix: its inputs are x

      [input] the input 'x' is a number
        fix: pass a Float32Array, or { dtype, axes, shape, data }

      [input] the input 'x' is a plain array
        fix: pass a Float32Array, or { dtype, axes, shape, data }

      [dtype] the input 'x' is i32, declared as f32
        fix: convert it, or declare tensor('x', 'i32', ...)

      [dtype] the data of the input 'x' is Float64Array, but f32 is held in Float32Array
        fix: pass a Float32Array, or declare another dtype

      [shape] the input 'x' holds 5 elements for the shape 2 × 3
        fix: pass 6

      [shape] the input 'x' does not list its axes and its shape
        fix: its axes are r, n

      [shape] the input 'x' has no axis 'n'
        fix: its axes are r, n

      [shape] the input 'x' has an axis 'q', which is not declared
        fix: its axes are r, n

      [shape] the input 'x' has an axis twice: r, n, n
        fix: its axes are r, n

      [shape] the input 'x' has 2 axes, but 1 lengths
        fix: give a length for each of r, n

      [shape] the input 'x' has the shape 1.5 × 4
        fix: give whole numbers that are not negative

      [shape] the input 'x' has 5 elements, 2 × 3 are declared
        fix: pass { dtype, axes, shape, data }, or other sizes

      [input] the input 'x' lies on a device
        fix: pass a typed array to the reference device

      [shape] the input 'x' lies on the device over n, r, declared is the order r, n
        fix: declare tensor('x', ...) with its axes in the order n, r, or store it in the declared one

      [shape] the input 'x' needs 24 bytes for 2 × 3 of f32, its buffer has 20
        fix: allocate a larger one, or pass its true shape

      [input] the buffer of the input 'x' is no device buffer
        fix: allocate it with device.alloc, or wrap an address with device.wrap

      [output] the program has no output 'z'
        fix: its outputs are y

      [device] the reference device has no kernels to launch
        fix: use run, or another device

      [not-prepared] there are no kernels for these sizes yet
        fix: await program.prepare(sizes) first, or use run

      [shape] 3 elements for the shape 2
        fix: pass 2

      [shape] the tensor has no axis 'b'
        fix: its axes are a"
    `)
  })
  test('buffers of outputs', async () => {
    const at = machine({ kernels: { computeY: () => {} } })
    using opened = await openDevice('cuda', at)
    using program = await compile(outputs, { device: opened })
    using small = opened.device.alloc(4)
    expect(await complaints(
      () => program.run({ x: good }, { outputs: { y: small } }), () => program.run({ x: good }, { outputs: { y: opened.device.wrap(8n, 64) } }),
    )).toMatchInlineSnapshot(`
      "[shape] the output 'y' needs 24 bytes, its buffer has 4
        fix: allocate a larger one

      [alignment] the buffer of 'y' starts at 8, which is no multiple of 16 bytes
        fix: allocate it aligned, or copy it"
    `)
  })
})

describe('files', () => {
  const header = (text: string): Buffer => Buffer.concat([Buffer.from(BigUint64Array.of(BigInt(text.length)).buffer), Buffer.from(text)])
  test('safetensors', async () => {
    writeFileSync(join(folder, 'cut'), 'abc')
    expect(await complaints(
      () => readSafetensors(join(folder, 'none')), () => readSafetensors(folder), () => readSafetensors(join(folder, 'cut')),
      () => writeSafetensors(join(folder, 'no', 'where'), {}), () => writeSafetensors(folder, {}),
      () => parseSafetensors(header('{"a":{"dtype":"F64","shape":[1],"data_offsets":[0,8]}}')),
      () => parseSafetensors(header('{"a":{"dtype":"F32","shape":[1],"data_offsets":[0,4]}}')), () => parseSafetensors(header('{"\u009b31m":1}')),
    )).toMatchInlineSnapshot(`
      "[file] cannot read FOLDER/none: no such file or folder
        fix: check the path, the permissions and the space on the disk

      [file] FOLDER is not a regular file
        fix: give a safetensors file

      [safetensors] FOLDER/cut: truncated: 3 bytes, but the length of the header alone takes 8
        fix: fetch or write the file again

      [file] cannot write FOLDER/no/where: no such file or folder
        fix: check the path, the permissions and the space on the disk

      [file] cannot write FOLDER: it is a folder
        fix: give the path of a file

      [safetensors] safetensors data: tensor "a" has the dtype "F64", which is not known here
        fix: convert it to one of F32, F16, BF16, I32, U32, BOOL, I64, U8

      [safetensors] safetensors data: tensor "a" ends at byte 4 of the data, but there are only 0: truncated, or a wrong offset
        fix: fetch or write the file again

      [safetensors] safetensors data: the header has '1' where tensor "\\u009b31m" should be (byte 9 of the header)
        fix: write the file again with a safetensors library"
    `)
  })
})

/** The text of the sources: what is thrown there, and with what. */
const sources = ((): readonly ts.SourceFile[] => {
  const root = fileURLToPath(new URL('../../src/runtime', import.meta.url))
  return readdirSync(root, { recursive: true, encoding: 'utf8' }).filter(file => file.endsWith('.ts')).map(file => ts.createSourceFile(file, readFileSync(join(root, file), 'utf8'), ts.ScriptTarget.Latest, true))
})()
const thrown = sources.flatMap(source => {
  const found: { readonly at: string; readonly code: string | undefined; readonly fix: boolean }[] = []
  const visit = (node: ts.Node): void => {
    if (ts.isNewExpression(node) && /^(WeftError|EnvironmentError)$/.test(node.expression.getText())) {
      const [code, , detail] = node.arguments ?? []
      const fix = detail !== undefined && ts.isObjectLiteralExpression(detail) && detail.properties.some(p => p.name?.getText() === 'fix')
      found.push({ at: `${source.fileName}:${source.getLineAndCharacterOfPosition(node.getStart()).line + 1}`, code: code !== undefined && ts.isStringLiteral(code) ? code.text : undefined, fix })
    }
    ts.forEachChild(node, visit)
  }
  visit(source)
  return found
})

describe('all of them', () => {
  test('have a fix', () => {
    expect(thrown.length).toBeGreaterThan(50)
    expect(thrown.filter(one => !one.fix).map(one => one.at)).toEqual([])
  })
  test.skipIf(noCompiler)('are among those above', () => {
    expect([...new Set(thrown.flatMap(one => one.code ?? []))].filter(code => !codes.has(code))).toEqual([])
    expect([...codes]).toEqual(expect.arrayContaining(['cuda', 'out-of-memory', 'nvrtc', 'compile']))
  })
  test('statuses of the driver have an advice of their own, or that of their class', () => {
    // Those of which NVIDIA says that the process must be ended, that the context cannot be used any more, or nothing (999).
    const lost = [214, 220, 226, 700, 702, 709, 710, 714, 715, 716, 717, 718, 719, 721, 810, 911, 999]
    for (let status = 1; status < 1000; status++) {
      const { fix, sticky } = new CudaError('cuX', status, 'CUDA_ERROR_X', 'x')
      expect(fix).toMatch(/\w{4}/)
      expect(sticky).toBe(lost.includes(status))
      if (sticky) expect(fix).toMatch(/restart the process/)
      expect(new NvrtcError('nvrtcX', status, 'X').fix).toMatch(/\w{4}/)
    }
  })
})
