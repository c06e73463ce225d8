import { closeSync, fstatSync, openSync, readSync } from 'node:fs';

/** The text of a small file of the host, such as /etc/passwd. Throws when it cannot be read, and when it is larger than `maxBytes`. */
export function readBounded(path: string, maxBytes: number): string {
  const fd = openSync(path, 'r');
  try {
    const { size } = fstatSync(fd);
    if (size > maxBytes) throw new Error(`it is larger than ${maxBytes} bytes`);
    const bytes = Buffer.alloc(size);
    return bytes.toString('utf8', 0, readSync(fd, bytes, 0, size, 0));
  } finally {
    closeSync(fd);
  }
}
