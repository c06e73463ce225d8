import { buildTar, parseSafeName, readTar } from '../../../shared/policy/tar.ts';
import {
  attempt,
  hexWords,
  outcomeOfRefusal,
  requireSame,
  requireThat,
  words,
  type FuzzTarget,
} from '../target.ts';

const BLOCK = 512;
const LIMITS = { maxFiles: 4, maxFileBytes: 4096 };

const plain = buildTar(
  new Map([
    ['policy.wasm', Buffer.from('\0asm')],
    ['data.json', Buffer.from('{}')],
    ['folder/a.rego', Buffer.alloc(700, 'x')],
  ]),
);
const withType = (type: string, body: string): Uint8Array => {
  const bytes = Buffer.from(
    buildTar(
      new Map([
        [`x${type}`, Buffer.from(body)],
        ['after', Buffer.from('1')],
      ]),
    ),
  );
  bytes.write(type, 156, 'latin1');
  return bytes;
};

/** Archives, each also with its checksums put right: names stay in their folder, and what is read is read again from what is built. */
export const target: FuzzTarget = {
  seeds: [
    plain,
    withType('x', '13 path=a/b\n'),
    withType('L', 'long/name\0'),
    withType('5', ''),
    withType('2', ''),
  ],
  dictionary: [
    ...words(
      '../',
      '/',
      './',
      '\\',
      '\0',
      '11 path=../x\n',
      '12 size=9999\n',
      'ustar',
      '00000000000',
      '77777777777',
      'x',
      'L',
      'g',
      '2',
      '\u{1f600}',
    ),
    ...hexWords('80000000', 'ff'),
  ],
  maxBytes: 16_384,
  check: (input) => [input, withRightChecksums(input)].map(wayOf).join(' | '),
};

function wayOf(bytes: Uint8Array): string {
  const { value: files, refusal } = attempt(() => readTar(bytes, LIMITS));
  if (files === undefined) return refusal === undefined ? '' : outcomeOfRefusal(refusal);
  requireThat(files.size <= LIMITS.maxFiles, 'too many files');
  for (const [name, body] of files) {
    requireThat(body.length <= LIMITS.maxFileBytes, 'a file that is too long');
    requireThat(
      !`/${name}/`.includes('/../') && !name.startsWith('/') && name !== '',
      `the name ${name} leaves its folder`,
    );
    requireSame(parseSafeName(name), name, 'a name read again');
  }
  if ([...files.keys()].every((name) => Buffer.byteLength(name) <= 100))
    requireSame(
      [...readTar(buildTar(files), LIMITS)].map(plainly),
      [...files].map(plainly),
      'an archive read again',
    );
  return `${files.size} files`;
}

function plainly([name, body]: readonly [string, Uint8Array]): readonly [string, string] {
  return [name, Buffer.from(body).toString('base64')];
}

/** Mutations hardly ever hit a checksum, which keeps nobody out. */
function withRightChecksums(input: Buffer): Buffer {
  const bytes = Buffer.from(input);
  for (let at = 0; at + BLOCK <= bytes.length; at += BLOCK) {
    const block = bytes.subarray(at, at + BLOCK);
    if (block.toString('latin1', 257, 262) !== 'ustar') continue;
    block.fill(0x20, 148, 156);
    const sum = block.reduce((total, byte) => total + byte, 0);
    block.write(`${sum.toString(8).padStart(6, '0')}\0 `, 148, 'latin1');
  }
  return bytes;
}
