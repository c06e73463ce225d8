import { PicketError } from '../../shared/errors/errors.ts';

const NEWLINE = 0x0a;

/**
 * The lines of a stream of bytes, without their newlines. What follows the last newline is dropped: it is half of something. Throws `unavailable`,
 * reason `line_too_long`, as soon as a line is longer than `maxBytes`.
 */
export async function* readLines(
  chunks: AsyncIterable<Uint8Array>,
  maxBytes: number,
): AsyncGenerator<string, void, void> {
  let pending: Uint8Array[] = [];
  let pendingBytes = 0;
  for await (const chunk of chunks) {
    let start = 0;
    for (let end = chunk.indexOf(NEWLINE); end >= 0; end = chunk.indexOf(NEWLINE, start)) {
      requireLength(pendingBytes + end - start, maxBytes);
      yield Buffer.concat([...pending, chunk.subarray(start, end)]).toString('utf8');
      pending = [];
      pendingBytes = 0;
      start = end + 1;
    }
    pendingBytes += chunk.length - start;
    requireLength(pendingBytes, maxBytes);
    if (start < chunk.length) pending.push(chunk.subarray(start));
  }
}

function requireLength(bytes: number, maxBytes: number): void {
  if (bytes > maxBytes)
    throw new PicketError(
      'unavailable',
      'line_too_long',
      `The server sent a line of more than ${maxBytes} bytes`,
    );
}
