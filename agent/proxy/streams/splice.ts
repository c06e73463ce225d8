import type { ByteStream, ByteStreamReader, StreamFailure } from './byte-stream.ts';

/**
 * Joins two streams: bytes, ends and back-pressure pass both ways. When one breaks the other is aborted with the same failure. `onDone` is called once,
 * when both are closed.
 */
export function splice(
  near: ByteStream,
  far: ByteStream,
  onDone: (failure: StreamFailure | undefined) => void,
): void {
  let open = 2;
  const closed = (failure: StreamFailure | undefined, other: ByteStream): void => {
    if (open === 0) return;
    if (failure !== undefined) {
      open = 0;
      other.abort(failure);
      return onDone(failure);
    }
    open -= 1;
    if (open === 0) onDone(undefined);
  };
  near.attach(forwardTo(far, near, (failure) => closed(failure, far)));
  far.attach(forwardTo(near, far, (failure) => closed(failure, near)));
}

function forwardTo(
  to: ByteStream,
  from: ByteStream,
  onClose: (failure: StreamFailure | undefined) => void,
): ByteStreamReader {
  return {
    onData: (bytes) => {
      if (!to.write(bytes)) from.pause();
    },
    onEnd: () => to.end(),
    // What `from` held back was sent: whoever fills it may go on.
    onDrain: () => to.resume(),
    onClose,
  };
}
