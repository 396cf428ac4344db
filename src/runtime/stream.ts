/** Streams and timing events. Waiting is polling: a blocking call would stop the whole event loop. */
import { WeftError } from '../dsl/errors.js'
import { ended, notReady, type DriverCalls } from './driver-calls.js'
import './lifetime.js'

/** How a resource reaches its device: `enter` makes the context current, what is kept ends at the latest with the device. */
export interface StreamHost {
  readonly calls: DriverCalls
  enter(): void
  keep(resource: Disposable): void
  forget(resource: Disposable): void
}

export class Stream implements Disposable {
  readonly #host: StreamHost
  readonly #handle: bigint
  readonly owned: boolean
  #alive = true

  constructor(host: StreamHost, handle: bigint, owned: boolean) {
    this.#host = host
    this.#handle = handle
    this.owned = owned
    if (owned) host.keep(this)
  }

  /** CUstream; 0n is the default stream. */
  get handle(): bigint {
    if (!this.#alive) throw ended('the stream', 'a stream was used')
    return this.#handle
  }

  /** Resolves when everything enqueued so far has finished; rejects with the error of a failed kernel. */
  async done(): Promise<void> {
    this.#host.enter()
    using event = new TimingEvent(this.#host, withoutTiming)
    event.record(this)
    await event.done()
  }

  /** Whether everything enqueued has finished, without waiting. */
  idle(): boolean {
    this.#host.enter()
    const status = this.#host.calls.status('cuStreamQuery', this.handle)
    if (status !== 0 && status !== notReady) throw this.#host.calls.error('cuStreamQuery', status)
    return status === 0
  }

  [Symbol.dispose](): void {
    if (!this.#alive || (this.owned && !this.#host.calls.quietly('cuStreamDestroy_v2', this.#handle))) return
    this.#alive = false
    this.#host.forget(this)
  }
}

const withTiming = 0
const withoutTiming = 2

/** A point in a stream that can be waited for and timed (resolution about 0.5 µs). */
export class TimingEvent implements Disposable {
  readonly #host: StreamHost
  readonly #handle: bigint
  #recorded = false
  #alive = true

  constructor(host: StreamHost, flags = withTiming) {
    const event = new BigUint64Array(1)
    host.calls.run('cuEventCreate', event, flags)
    this.#host = host
    this.#handle = event[0] ?? 0n
    host.keep(this)
  }

  get handle(): bigint {
    if (!this.#alive) throw ended('the event', 'an event was used')
    return this.#handle
  }

  record(stream: Stream): void {
    this.#host.enter()
    this.#host.calls.run('cuEventRecord', this.handle, stream.handle)
    this.#recorded = true
  }

  /** Resolves when the stream has reached this point. */
  async done(): Promise<void> {
    if (!this.#recorded) throw new WeftError('event-not-recorded', 'an event was waited for that was never recorded', { fix: 'event.record(stream) first' })
    this.#host.enter()
    await poll(this.#host, this.handle)
  }

  /** Device time between two finished events. */
  millisecondsSince(start: TimingEvent): number {
    this.#host.enter()
    const time = new Float32Array(1)
    this.#host.calls.run('cuEventElapsedTime', time, start.handle, this.handle)
    return time[0] ?? 0
  }

  [Symbol.dispose](): void {
    if (!this.#alive || !this.#host.calls.quietly('cuEventDestroy_v2', this.#handle)) return
    this.#alive = false
    this.#host.forget(this)
  }
}

const pauses = [1, 1, 2, 2, 4, 4, 8]

/** Asks 64 times at the pace of the event loop (a few µs each), then with pauses of 1 to 8 ms. */
async function poll(host: StreamHost, event: bigint): Promise<void> {
  for (let round = 0; ; round++) {
    host.enter()
    const status = host.calls.status('cuEventQuery', event)
    if (status === 0) return
    if (status !== notReady) throw host.calls.error('cuEventQuery', status)
    if (round < 64) await new Promise((resolve) => setImmediate(resolve))
    else await new Promise((resolve) => setTimeout(resolve, pauses[Math.min(pauses.length - 1, (round - 64) >> 3)]))
  }
}
