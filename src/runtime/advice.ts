/**
 * What to do about a status of the driver (CUresult, cuda.h) or of NVRTC (nvrtcResult), by its number. Every number has
 * an answer: the particular one, else the one of its class.
 */

/** After these, every later call in the context fails too: ECC, NVLink, faults, asserts, traps, time-outs, unknown. */
const stickyNumbers: ReadonlySet<number> = new Set([214, 220, 226, 700, 702, 709, 710, 714, 715, 716, 717, 718, 719, 721, 810, 911, 999])

export const isSticky = (number: number): boolean => stickyNumbers.has(number)

/** What the machine's set-up causes: stub libraries, old drivers, exclusive or missing devices, services that do not run. */
export const isOfMachine = (number: number): boolean => [34, 36, 46, 100, 101, 102, 800, 801, 802, 803, 804, 805, 806, 807, 808, 809].includes(number)

const again = 'restart the process'
const newerNvrtc = 'set WEFT_NVRTC to an NVRTC not newer than the driver'
const recording = 'record on a stream of its own (device.stream()), and only launches and copies on that stream: allocate and wait before'
const mps = 'look at the control daemon of MPS (`nvidia-cuda-mps-control`), or unset CUDA_MPS_PIPE_DIRECTORY to do without it'

const driver: { readonly [number: number]: string } = {
  1: 'look at the pointers, sizes and streams that were passed (device.wrap, wrapStream); if none were, it is a defect of Weft: report it with `weft doctor --verbose`',
  2: 'free buffers (dispose), lower the batch or the number of heads per call, then try again: the device is still usable',
  3: `the driver was not initialised, or other code ended it: open the device again, or ${again}`,
  4: 'the driver is shutting down, as it does when the process ends: dispose of devices before that',
  34: "a toolkit's stub library was loaded instead of the driver: remove its `stubs` folder from LD_LIBRARY_PATH",
  36: 'the driver is too old for this call: update it (`weft doctor` shows its version)',
  46: 'the device is in exclusive mode and another process holds it: end that process, or `nvidia-smi -c 0`',
  100: 'no CUDA device is visible: look at CUDA_VISIBLE_DEVICES and `nvidia-smi`, or use --device emulator',
  101: 'there is no device with this number: `weft doctor` lists them',
  200: `the driver cannot read the kernel's image: ${newerNvrtc}, and try without the cache (--no-cache)`,
  201: 'the context was ended by other code of this process: open the device again',
  209: "no image for this GPU's architecture: compile for the device's own sm_XX, or use an NVRTC that knows it",
  214: `the GPU's memory failed: look at \`nvidia-smi -q -d ECC\`; ${again}, and the machine if it comes again`,
  218: `the PTX was refused: ${newerNvrtc}`,
  220: `a link between GPUs failed: look at \`nvidia-smi nvlink -s\`; ${again}`,
  221: 'the driver has no PTX compiler here: use an NVRTC that knows this GPU, so that a cubin is made',
  222: `the PTX is newer than the driver: ${newerNvrtc}, or update the driver`,
  223: 'the compilation of PTX is switched off: unset CUDA_DISABLE_PTX_JIT, or use an NVRTC that knows this GPU',
  304: 'the operating system refused something to the driver: look at `dmesg`, at the rights of /dev/nvidia* and at the limits of memory',
  400: 'a stream, an event or a module of another device, or one that was freed, was passed',
  401: 'a stream that is being recorded, or is not, was used as if it were otherwise: end the recording first',
  500: 'kernels are `extern "C" __global__`; compare the name with the text',
  700: `a kernel touched memory it does not own: run it with --device emulator, whose guard pages name the access; ${again}`,
  701: 'too many registers or too much shared memory for one block: take a smaller tile or fewer warps',
  702: `the kernel ran longer than the display watchdog allows: split the work, or use a device without a display; ${again}`,
  709: `other code of this process destroyed the context: ${again}`,
  710: `an assertion in a kernel failed: its line is on standard output; ${again}`,
  719: `a kernel crashed: run it with --device emulator to find out where; ${again}`,
  720: 'too many blocks for a cooperative launch: take fewer blocks',
  800: 'the driver does not permit this here: look at the rights of the container and at `nvidia-smi -q`',
  801: 'this device or driver cannot do this: `weft doctor` shows what they are; use another schedule or --device emulator',
  802: 'the GPUs are not ready: start the fabric manager (`systemctl start nvidia-fabricmanager`), or wait until the machine has started',
  803: 'a `cuda/compat` folder comes before the driver of the host: remove it from LD_LIBRARY_PATH',
  804: 'forward compatibility is for data-centre GPUs only: update the driver',
  805: mps, 806: mps, 807: mps, 808: mps, 809: mps,
  810: `the MPS server ended this client: ${mps}; ${again}`,
  900: recording, 901: recording, 902: recording, 903: recording, 904: recording, 905: recording, 906: recording, 907: recording, 908: recording,
  911: `a device outside of CUDA failed: ${again}`,
  999: `look at \`dmesg\` for messages of the driver (Xid); ${again}, and the machine if it comes again`,
}

/** The emulator has named the place already, and its faults end with the device. */
const emulated = 'look at the access that the message names, and at the shapes of what was passed; dispose of this device, a newly opened one works'

export function driverAdvice(number: number, onEmulator = false): string {
  if (onEmulator && isSticky(number)) return emulated
  return driver[number] ?? (isSticky(number)
    ? `a kernel went wrong: run it with --device emulator to find out where; ${again}`
    : "NVIDIA's description of CUresult tells more; if nothing there helps, report it with `weft doctor --verbose`")
}

const nvrtc: { readonly [number: number]: string } = {
  1: 'the host has too little memory for another compilation: end other programs, or compile fewer kernels at a time',
  5: 'an option is unknown to this NVRTC: `weft doctor` shows its version; use another with WEFT_NVRTC',
  7: 'libnvrtc-builtins of the same version must lie beside libnvrtc: npm run setup:nvrtc',
  11: 'NVRTC itself went wrong: use another version with WEFT_NVRTC (npm run setup:nvrtc fetches one)',
  12: 'NVRTC could not write a file: look at the space and the rights of the temporary folder (TMPDIR)',
  16: 'the compilation was cancelled by other code of this process: try again',
}

export const nvrtcAdvice = (number: number): string =>
  nvrtc[number] ?? 'this is a defect of Weft or of NVRTC: report it with `weft doctor --verbose`, or use another NVRTC with WEFT_NVRTC'
