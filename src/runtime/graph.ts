/** A recorded sequence of launches and copies, replayed by one call of the driver. */
import { ended } from './driver-calls.js'
import { Stream, type StreamHost } from './stream.js'
import './lifetime.js'

const threadLocal = 1   // CUstreamCaptureMode: calls of other threads are none of our business

export class Graph implements Disposable {
  readonly #host: StreamHost
  readonly #handle: bigint
  #alive = true

  /** Records what `work` enqueues on the stream, without running it. The default stream cannot be recorded. */
  constructor(host: StreamHost, stream: Stream, work: () => void) {
    const { calls } = host
    const graph = new BigUint64Array(1), executable = new BigUint64Array(1)
    calls.run('cuStreamBeginCapture_v2', stream.handle, threadLocal)
    try {
      work()
      host.enter()
    } catch (error) {
      calls.quietly('cuStreamEndCapture', stream.handle, graph)
      discard(host, graph)
      throw error
    }
    try {
      calls.run('cuStreamEndCapture', stream.handle, graph)
      calls.run('cuGraphInstantiateWithFlags', executable, graph[0] ?? 0n, 0n)
    } finally {
      discard(host, graph)
    }
    this.#host = host
    this.#handle = executable[0] ?? 0n
    host.keep(this)
  }

  /** Enqueues the recorded work. The buffers it was recorded with must still be alive. */
  launch(stream: Stream): void {
    if (!this.#alive) throw ended('the graph', 'a graph was launched')
    this.#host.enter()
    this.#host.calls.run('cuGraphLaunch', this.#handle, stream.handle)
  }

  [Symbol.dispose](): void {
    if (!this.#alive || !this.#host.calls.quietly('cuGraphExecDestroy', this.#handle)) return
    this.#alive = false
    this.#host.forget(this)
  }
}

/** A recording, once its executable form is made or given up. The driver leaves NULL where it made none. */
function discard({ calls }: StreamHost, graph: BigUint64Array): void {
  if (graph[0] !== undefined && graph[0] !== 0n) calls.quietly('cuGraphDestroy', graph[0])
}
