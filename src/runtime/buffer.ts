/** Device memory with a lifetime. */
import { WeftError } from '../dsl/errors.js'
import { ended } from './driver-calls.js'
import './lifetime.js'

export class DeviceBuffer implements Disposable {
  readonly bytes: number
  readonly label: string
  /** False for memory that belongs to someone else (`device.wrap`): freeing it only ends this handle. */
  readonly owned: boolean
  readonly #address: bigint
  readonly #release: (buffer: DeviceBuffer, address: bigint) => void
  #alive = true

  constructor(address: bigint, bytes: number, label: string, owned: boolean, release: (buffer: DeviceBuffer, address: bigint) => void) {
    this.#address = address
    this.bytes = bytes
    this.label = label
    this.owned = owned
    this.#release = release
  }

  get alive(): boolean {
    return this.#alive
  }

  /** The device address. 0n for a buffer of no bytes. */
  get pointer(): bigint {
    if (!this.#alive) throw ended(this.describe(), 'its address was asked for')
    return this.#address
  }

  describe(): string {
    return `buffer ${JSON.stringify(this.label)} of ${this.bytes} bytes`
  }

  /** Frees the memory. Twice is an error: the second one would be someone else's memory by then. */
  free(): void {
    if (!this.#alive) throw new WeftError('double-free', `${this.describe()} was freed twice`, { fix: 'free it once, or leave it to `using`' })
    this.#release(this, this.#address)
    this.#alive = false
  }

  /** The end of a `using` block: frees unless that was done already. What the driver refuses now, the end of the device tries again. */
  [Symbol.dispose](): void {
    try {
      if (this.#alive) this.free()
    } catch {
      // An error here would take the place of the one that ended the block; a sticky one is met by the next call.
    }
  }
}
