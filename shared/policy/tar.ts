import { PicketError } from '../errors/errors.ts';

/** What a tar archive may hold at most. */
export interface TarLimits {
  readonly maxFiles: number;
  readonly maxFileBytes: number;
}

/** Files by their safe relative name. */
export type TarFiles = ReadonlyMap<string, Uint8Array>;

const BLOCK = 512;
const MAX_NAME_BYTES = 255;

/**
 * Reads a tar archive (POSIX ustar with pax paths, and GNU long names). Folders are skipped; links, devices, unsafe or repeated names are
 * refused. The views share `bytes`. Throws `invalid_argument`, reason `archive_invalid`, or `archive_too_big` past a limit.
 *
 * | offset | bytes | field |
 * |---|---|---|
 * | 0 | 100 | name |
 * | 124 | 12 | size, octal |
 * | 148 | 8 | checksum: sum of the header's bytes with this field as spaces |
 * | 156 | 1 | type: 0 or NUL file, 5 folder, x pax header, g global pax header, L GNU long name |
 * | 257 | 6 | "ustar" |
 * | 345 | 155 | prefix of the name |
 */
export function readTar(bytes: Uint8Array, limits: TarLimits): TarFiles {
  const files = new Map<string, Uint8Array>();
  let longName: string | undefined;
  for (let at = 0; at < bytes.length;) {
    const header = readHeader(bytes, at);
    if (header === undefined) return files;
    const body = bytes.subarray(at + BLOCK, at + BLOCK + header.size);
    if (body.length !== header.size) throw invalid('it ends inside a file');
    at += BLOCK + Math.ceil(header.size / BLOCK) * BLOCK;
    if (header.type === 'x') longName = readPaxPath(body) ?? longName;
    else if (header.type === 'L') longName = text(body);
    else if (header.type === '0' || header.type === '5') {
      const name = longName ?? header.name;
      longName = undefined;
      if (header.type === '0') addFile(files, { name: parseSafeName(name), body, limits });
    } else if (header.type !== 'g') {
      throw invalid(`"${header.name}" is neither a file nor a folder (type ${JSON.stringify(header.type)})`);
    }
  }
  throw invalid('its end is missing');
}

/** Builds a ustar archive with fixed owners and times, so that equal files give equal bytes. Names are at most 100 bytes. */
export function buildTar(files: TarFiles): Uint8Array {
  const parts: Uint8Array[] = [];
  for (const [name, body] of files) {
    parts.push(buildHeader(name, body.length), body, new Uint8Array(-body.length & (BLOCK - 1)));
  }
  parts.push(new Uint8Array(2 * BLOCK));
  return Buffer.concat(parts);
}

/**
 * A relative file name that stays below the folder it is written to: one leading `/` or `./` is dropped; empty, `.` and `..` segments,
 * control characters and backslashes are refused. Throws `invalid_argument`, reason `archive_invalid`.
 */
export function parseSafeName(name: string): string {
  const relative = name.replace(/^(?:\.?\/)/, '');
  const isSafe =
    Buffer.byteLength(relative) <= MAX_NAME_BYTES &&
    !/[\p{Cc}\\]/u.test(relative) &&
    relative.split('/').every((segment) => segment !== '' && segment !== '.' && segment !== '..');
  if (!isSafe) throw invalid(`the file name ${JSON.stringify(name.slice(0, 300))} is not safe`);
  return relative;
}

interface Header {
  readonly name: string;
  readonly size: number;
  readonly type: string;
}

/** The header at an offset, or undefined for the block of zeros that ends the archive. */
function readHeader(bytes: Uint8Array, at: number): Header | undefined {
  const block = bytes.subarray(at, at + BLOCK);
  if (block.length !== BLOCK) throw invalid('it ends inside a header');
  if (block.every((byte) => byte === 0)) return undefined;
  if (readOctal(block, 148, 8) !== checksumOf(block)) throw invalid('the checksum of a header is wrong');
  const name = text(block.subarray(0, 100));
  const prefix = text(block.subarray(257, 262)) === 'ustar' ? text(block.subarray(345, 500)) : '';
  const type = block[156] === 0 ? '0' : String.fromCharCode(block[156] ?? 0);
  return { name: prefix === '' ? name : `${prefix}/${name}`, size: readOctal(block, 124, 12), type };
}

function addFile(
  files: Map<string, Uint8Array>,
  file: { readonly name: string; readonly body: Uint8Array; readonly limits: TarLimits },
): void {
  const { name, body, limits } = file;
  if (files.has(name)) throw invalid(`"${name}" is in it twice`);
  if (body.length > limits.maxFileBytes)
    throw tooBig(`"${name}" is longer than ${limits.maxFileBytes} bytes`);
  if (files.size >= limits.maxFiles) throw tooBig(`it holds more than ${limits.maxFiles} files`);
  files.set(name, body);
}

/** The `path` of a pax extended header, whose records are `<length> <key>=<value>\n` (POSIX pax, 4.18). Sizes beyond octal are refused. */
function readPaxPath(body: Uint8Array): string | undefined {
  let path: string | undefined;
  for (let at = 0; at < body.length;) {
    const digits = /^(\d{1,7}) /.exec(text(body.subarray(at, at + 8)))?.[1];
    const length = Number(digits ?? 0);
    if (digits === undefined || length <= digits.length + 2 || at + length > body.length)
      throw invalid('a pax header is malformed');
    const record = text(body.subarray(at + digits.length + 1, at + length - 1));
    if (record.startsWith('size=')) throw invalid('a pax header changes a size');
    if (record.startsWith('path=')) path = record.slice('path='.length);
    at += length;
  }
  return path;
}

function buildHeader(name: string, size: number): Uint8Array {
  if (Buffer.byteLength(name) > 100) throw new RangeError(`Tar name "${name}" is longer than 100 bytes`);
  const header = Buffer.alloc(BLOCK);
  header.write(name, 0);
  header.write('0000644\u00000000000\u00000000000\u0000', 100, 'latin1');
  header.write(`${size.toString(8).padStart(11, '0')}\u000000000000000\u0000`, 124, 'latin1');
  header.write('0', 156);
  header.write('ustar\u000000', 257, 'latin1');
  header.write(`${checksumOf(header).toString(8).padStart(6, '0')}\u0000 `, 148, 'latin1');
  return header;
}

function checksumOf(block: Uint8Array): number {
  let sum = 0;
  for (let i = 0; i < BLOCK; i++) sum += i >= 148 && i < 156 ? 0x20 : (block[i] ?? 0);
  return sum;
}

function readOctal(block: Uint8Array, at: number, length: number): number {
  const digits = text(block.subarray(at, at + length)).trim();
  if (!/^[0-7]{1,11}$/.test(digits)) throw invalid('a number in a header is not octal');
  return Number.parseInt(digits, 8);
}

/** The text up to the first NUL. */
function text(bytes: Uint8Array): string {
  const end = bytes.indexOf(0);
  return Buffer.from(end < 0 ? bytes : bytes.subarray(0, end)).toString('utf8');
}

function invalid(why: string): PicketError {
  return new PicketError('invalid_argument', 'archive_invalid', `Cannot read the archive: ${why}`);
}

function tooBig(why: string): PicketError {
  return new PicketError('invalid_argument', 'archive_too_big', `Cannot read the archive: ${why}`);
}
