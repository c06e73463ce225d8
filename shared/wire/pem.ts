import { PicketError } from '../errors/errors.ts';

/** The labels that Picket reads and writes (RFC 7468). */
export type PemLabel =
  'CERTIFICATE' | 'PRIVATE KEY' | 'ENCRYPTED PRIVATE KEY' | 'PUBLIC KEY' | 'CERTIFICATE REQUEST';

export interface PemBlock {
  readonly label: PemLabel;
  readonly der: Uint8Array;
}

/** The largest PEM text that is read, in characters. */
export const MAX_PEM_CHARACTERS = 1024 * 1024;

/** The most blocks that one text may hold. */
export const MAX_PEM_BLOCKS = 256;

const LABELS: ReadonlySet<string> = new Set<PemLabel>([
  'CERTIFICATE',
  'PRIVATE KEY',
  'ENCRYPTED PRIVATE KEY',
  'PUBLIC KEY',
  'CERTIFICATE REQUEST',
]);

/** The block in the strict form of RFC 7468: 64 characters a line, a newline at the end. */
export function encodePem(label: PemLabel, der: Uint8Array): string {
  const lines = Buffer.from(der)
    .toString('base64')
    .match(/.{1,64}/g);
  return `-----BEGIN ${label}-----\n${(lines ?? []).join('\n')}\n-----END ${label}-----\n`;
}

/**
 * Every block of `text` in order. Lines outside of blocks are explanatory text and skipped, as RFC 7468 5.2 allows; inside,
 * only base64 may stand. Throws `invalid_argument`, reason `pem_invalid`, for an unknown or unequal label, a block that does
 * not end, bad base64, or a text beyond the limits.
 */
export function decodePem(text: string): readonly PemBlock[] {
  if (text.length > MAX_PEM_CHARACTERS)
    throw invalid(`the text is longer than ${MAX_PEM_CHARACTERS} characters`);
  const blocks: PemBlock[] = [];
  let open: { readonly label: PemLabel; readonly lines: string[] } | undefined;
  for (const line of text.split(/\r?\n/)) {
    if (open === undefined) {
      const label = boundaryLabel(line, 'BEGIN');
      if (label !== undefined) open = { label, lines: [] };
    } else if (boundaryLabel(line, 'END') === open.label) {
      blocks.push({ label: open.label, der: decodeBase64(open.lines.join('')) });
      open = undefined;
    } else open.lines.push(line.trimEnd());
  }
  if (open !== undefined) throw invalid(`the block ${open.label} does not end`);
  if (blocks.length > MAX_PEM_BLOCKS) throw invalid(`the text holds more than ${MAX_PEM_BLOCKS} blocks`);
  return blocks;
}

/** The DER of every block, which must all be of `label` and at least one. Throws like `decodePem`. */
export function decodePemBlocks(label: PemLabel, text: string): readonly Uint8Array[] {
  const blocks = decodePem(text);
  if (blocks.length === 0) throw invalid(`there is no block ${label}`);
  for (const block of blocks)
    if (block.label !== label) throw invalid(`expected a block ${label}, found ${block.label}`);
  return blocks.map((block) => block.der);
}

/** The DER of the only block, which must be of `label`. Throws like `decodePem`. */
export function decodePemBlock(label: PemLabel, text: string): Uint8Array {
  const [der, ...others] = decodePemBlocks(label, text);
  if (der === undefined || others.length > 0) throw invalid(`expected one block ${label}`);
  return der;
}

function boundaryLabel(line: string, kind: 'BEGIN' | 'END'): PemLabel | undefined {
  if (!line.startsWith(`-----${kind} `)) return undefined;
  const label = /^-----(?:BEGIN|END) ([A-Z0-9 ]{1,64})-----\s*$/.exec(line)?.[1];
  if (label === undefined || !LABELS.has(label)) throw invalid('a label is not known');
  return label as PemLabel;
}

function decodeBase64(text: string): Uint8Array {
  const bytes = Buffer.from(text, 'base64');
  // Node's decoder skips what it does not know; only the canonical spelling is read back as it was written.
  if (bytes.length === 0 || bytes.toString('base64') !== text)
    throw invalid('a block is not base64, or empty');
  return new Uint8Array(bytes);
}

function invalid(why: string): PicketError {
  return new PicketError('invalid_argument', 'pem_invalid', `Cannot read PEM: ${why}`);
}
