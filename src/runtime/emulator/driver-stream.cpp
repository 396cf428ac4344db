// Driver entry points: streams, events, capture and graphs.
//
// A captured graph is the list of its operations in the order of submission, which is one of the orders that its
// dependencies allow. A stream that waits for an event of a capture joins it, as with CUDA.
#include "device.h"

using namespace emu;

#define READY if (const int error = ready()) return error
#define EVENT(handle) \
  READY; \
  if (!isOneOf(device().events, handle)) return invalidHandle; \
  Event& event = *static_cast<Event*>(handle)
#define STREAM(handle) \
  READY; \
  Stream* const stream = streamOf(handle); \
  if (stream == nullptr) return invalidHandle

// ---- streams ----
WEFT_ENTRY cuStreamCreate(void** out, unsigned) { READY; return *out = keep(device().streams, new Stream), success; }
WEFT_ENTRY cuStreamCreateWithPriority(void** out, unsigned flags, int) { return cuStreamCreate(out, flags); }
WEFT_ENTRY cuStreamDestroy_v2(void* handle) {
  READY;
  if (!isOneOf(device().streams, handle)) return invalidHandle;
  drop(device().streams, handle);
  delete static_cast<Stream*>(handle);  // its work goes on
  return success;
}
WEFT_ENTRY cuStreamSynchronize(void* handle) {
  STREAM(handle);
  if (stream->capture != nullptr) return stream->capture->broken = true, captureUnsupported;
  return synchronise(stream == &device().defaultStream ? lastSequence() : stream->last);
}
WEFT_ENTRY cuStreamQuery(void* handle) {
  STREAM(handle);
  if (stream->capture != nullptr) return stream->capture->broken = true, captureUnsupported;
  return isDone(stream == &device().defaultStream ? lastSequence() : stream->last) ? ready() : int(notReady);
}
WEFT_ENTRY cuStreamWaitEvent(void* handle, void* eventHandle, unsigned) {
  STREAM(handle);
  if (!isOneOf(device().events, eventHandle)) return invalidHandle;
  const Event& event = *static_cast<Event*>(eventHandle);
  if (event.capture != nullptr && stream->capture == nullptr) {
    if (stream == &device().defaultStream) return event.capture->broken = true, captureImplicit;
    stream->capture = event.capture;
  } else if (stream->capture != nullptr && event.capture != stream->capture && event.sequence != 0) {
    return stream->capture->broken = true, captureWrongStream;
  }
  return success;  // one queue: what was submitted before is done before
}

// ---- events ----
WEFT_ENTRY cuEventCreate(void** out, unsigned flags) {
  READY;
  Event* event = new Event;
  event->timed = (flags & 2) == 0;  // CU_EVENT_DISABLE_TIMING
  return *out = keep(device().events, event), success;
}
WEFT_ENTRY cuEventDestroy_v2(void* handle) {
  EVENT(handle);
  waitFor(event.sequence);
  drop(device().events, handle);
  delete &event;
  return success;
}
WEFT_ENTRY cuEventRecord(void* eventHandle, void* handle) {
  STREAM(handle);
  if (!isOneOf(device().events, eventHandle)) return invalidHandle;
  Event* event = static_cast<Event*>(eventHandle);
  event->capture = stream->capture;
  if (stream->capture != nullptr) return stream->capture->broken ? captureInvalidated : success;
  if (const int error = submit(stream, [event] { event->time = std::chrono::steady_clock::now(); })) return error;
  event->sequence = stream->last;
  return success;
}
WEFT_ENTRY cuEventSynchronize(void* handle) {
  EVENT(handle);
  if (event.capture != nullptr) return event.capture->broken = true, captureUnsupported;
  return synchronise(event.sequence);
}
WEFT_ENTRY cuEventQuery(void* handle) {
  EVENT(handle);
  if (event.capture != nullptr) return event.capture->broken = true, captureUnsupported;
  return isDone(event.sequence) ? ready() : int(notReady);
}
WEFT_ENTRY cuEventElapsedTime(float* milliseconds, void* from, void* to) {
  READY;
  if (!isOneOf(device().events, from) || !isOneOf(device().events, to)) return invalidHandle;
  const Event &first = *static_cast<Event*>(from), &second = *static_cast<Event*>(to);
  if (!first.timed || !second.timed || first.sequence == 0 || second.sequence == 0) return invalidHandle;
  if (!isDone(first.sequence) || !isDone(second.sequence)) return notReady;
  *milliseconds = std::chrono::duration<float, std::milli>(second.time - first.time).count();
  return success;
}
WEFT_ENTRY cuEventElapsedTime_v2(float* milliseconds, void* from, void* to) { return cuEventElapsedTime(milliseconds, from, to); }

// ---- capture ----
WEFT_ENTRY cuStreamBeginCapture_v2(void* handle, int mode) {
  STREAM(handle);
  if (stream == &device().defaultStream) return captureUnsupported;
  if (stream->capture != nullptr) return illegalState;
  if (mode < 0 || mode > 2) return invalidValue;
  stream->capture = std::make_shared<Capture>();
  stream->capture->mode = mode;
  stream->capture->graph = new Graph;
  stream->beganCapture = true;
  std::lock_guard<std::mutex> lock(device().lock);
  device().captures.push_back(stream->capture);
  return success;
}
WEFT_ENTRY cuStreamEndCapture(void* handle, void** out) {
  STREAM(handle);
  if (stream->capture == nullptr) return illegalState;
  if (!stream->beganCapture) return captureUnmatched;
  const std::shared_ptr<Capture> capture = stream->capture;
  {
    std::lock_guard<std::mutex> lock(device().lock);
    for (void* other : device().streams) {
      Stream* joined = static_cast<Stream*>(other);
      if (joined->capture == capture) joined->capture = nullptr, joined->beganCapture = false;
    }
    for (void* other : device().events) {
      Event* event = static_cast<Event*>(other);
      if (event->capture == capture) event->capture = nullptr;
    }
    auto& captures = device().captures;
    for (size_t i = captures.size(); i-- > 0;)
      if (captures[i].lock() == capture) captures.erase(captures.begin() + i64(i));
  }
  if (capture->broken) {
    delete capture->graph;
    *out = nullptr;
    return captureInvalidated;
  }
  *out = keep(device().graphs, capture->graph);
  return success;
}
WEFT_ENTRY cuStreamIsCapturing(void* handle, int* status) {
  STREAM(handle);
  return *status = stream->capture == nullptr ? 0 : stream->capture->broken ? 2 : 1, success;
}

// ---- graphs ----
WEFT_ENTRY cuGraphInstantiateWithFlags(void** out, void* handle, u64) {
  READY;
  if (!isOneOf(device().graphs, handle)) return invalidHandle;
  GraphExec* exec = new GraphExec;
  exec->operations = std::make_shared<std::vector<Operation>>(static_cast<Graph*>(handle)->operations);
  return *out = keep(device().execs, exec), success;
}
WEFT_ENTRY cuGraphLaunch(void* handle, void* streamHandle) {
  STREAM(streamHandle);
  if (!isOneOf(device().execs, handle)) return invalidHandle;
  return submit(stream, [operations = static_cast<GraphExec*>(handle)->operations] {
    for (const Operation& operation : *operations) operation();
  });
}
WEFT_ENTRY cuGraphExecDestroy(void* handle) {
  READY;
  if (!drop(device().execs, handle)) return invalidHandle;
  delete static_cast<GraphExec*>(handle);
  return success;
}
WEFT_ENTRY cuGraphDestroy(void* handle) {
  READY;
  if (!drop(device().graphs, handle)) return invalidHandle;
  delete static_cast<Graph*>(handle);
  return success;
}

#undef READY
#undef EVENT
#undef STREAM
