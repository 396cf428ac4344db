/** What a compiler of kernel text offers, whichever device it compiles for. */

/** What one kernel needs, from the compiler's report; bytes are plain numbers. */
export interface KernelResources {
  readonly name: string
  /** 'sm_90', or 'host'. */
  readonly arch: string
  /** Per thread. */
  readonly registers: number
  /** Per thread; anything but 0 is a schedule to avoid. */
  readonly spillStores: number
  readonly spillLoads: number
  /** Static shared memory per block. */
  readonly sharedBytes: number
}

export interface KernelImage {
  /** What the device's `load` takes: a cubin, PTX text, or the emulator's library. */
  readonly image: Uint8Array
  readonly resources: readonly KernelResources[]
  readonly log: string
  readonly fromCache: boolean
}

export interface CompileRequest {
  readonly text: string
  /** The `extern "C"` names in the text. */
  readonly kernels: readonly string[]
  /** The device's `arch`. */
  readonly arch: string
  /** A file name for messages and line tables. */
  readonly name?: string
}

export interface Compiler {
  /** Names the compiler and its exact build, e.g. `nvrtc 13.5 141163664-1a2b3c`: part of a cache key. */
  readonly id: string
  readonly target: 'cuda' | 'host'
  /** All options that change the image: part of a cache key. */
  readonly options: readonly string[]
  compile(request: CompileRequest): Promise<KernelImage>
}
