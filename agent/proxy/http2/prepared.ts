import type { DecisionHttpRequest } from '../../../shared/policy/decision.ts';
import { FieldList, HpackDecoder } from '../../../shared/wire/hpack-decoder.ts';
import { EMPTY_TABLE, encodeFields } from '../../../shared/wire/hpack-encoder.ts';
import {
  readRequestHead,
  readTrailers,
  type ReadRequestHead,
} from '../../../shared/wire/http2-request-head.ts';
import { HTTP2_LIMITS } from './limits.ts';

interface BlockRange {
  readonly start: number;
  readonly end: number;
}

/** A request as the policy is asked about it and as the application gets it. */
export interface PreparedHttp2Request {
  readonly kind: 'request';
  readonly http: DecisionHttpRequest;
  /** Its header block with the caller's identity attached; it stands for itself. */
  readonly block: Uint8Array;
  readonly isGrpc: boolean;
  readonly headBytes: number;
}

/** A request, or what is none. */
export type Prepared = PreparedHttp2Request | Exclude<ReadRequestHead, { readonly kind: 'request' }>;

/** Blocks that are remembered of one connection, a power of two, and how long they may be, for its memory. */
const REMEMBERED = 16;
const MAX_REMEMBERED_BYTES = 1024;

interface Remembered {
  readonly bytes: Uint8Array;
  readonly prepared: Prepared;
}

/**
 * Reads the header blocks of one client, all of them in their order, and makes of them what the application gets. Throws `http2_compression_error`. A block that
 * came before, and stands for itself, is not read again: its `http` is the same object.
 */
export class Http2Preparer {
  readonly #decoder = new HpackDecoder({ listBytes: HTTP2_LIMITS.blockBytes, fields: HTTP2_LIMITS.fields });
  readonly #list = new FieldList();
  readonly #own: Uint8Array;
  readonly #remembered: (Remembered | undefined)[] = [];
  /** What came once in the place of each: only what comes again is remembered. */
  readonly #seen: (number | undefined)[] = [];

  /** `ownFields`: a block that is attached to every request. */
  constructor(ownFields: Uint8Array) {
    this.#own = ownFields;
  }

  /** The client knows that it is to have no table. */
  expectNoTable(): void {
    this.#decoder.allowTableBytes(0);
  }

  prepareRequest(bytes: Buffer, range: BlockRange): Prepared {
    const { start, end } = range;
    const length = end - start;
    const canRemember =
      this.#decoder.isTableless &&
      length <= MAX_REMEMBERED_BYTES &&
      length > 0 &&
      ((bytes[start] ?? 0) & 0xe0) !== EMPTY_TABLE;
    if (!canRemember) return this.#readRequest(bytes, range);
    const hash = hashOf(bytes, range);
    const slot = (hash ^ (hash >>> 15)) & (REMEMBERED - 1);
    const known = this.#remembered[slot];
    if (known?.bytes.length === length && bytes.compare(known.bytes, 0, length, start, end) === 0)
      return known.prepared;
    const prepared = this.#readRequest(bytes, range);
    if (this.#seen[slot] === hash)
      this.#remembered[slot] = { bytes: new Uint8Array(bytes.subarray(start, end)), prepared };
    this.#seen[slot] = hash;
    return prepared;
  }

  /** A request's trailers as the application gets them; or why they are none. */
  prepareTrailers(
    bytes: Buffer,
    range: BlockRange,
  ): { readonly block: Uint8Array } | { readonly malformed: string } {
    const first = this.#decoder.decode(bytes, range, this.#list);
    const read = readTrailers(this.#list);
    if ('malformed' in read) return read;
    return {
      block: this.#rebuild(bytes, { start: first, end: range.end }, { cut: read.owned, own: NOTHING }),
    };
  }

  /** A block that nobody wants: it may change the table. */
  skip(bytes: Buffer, range: BlockRange): void {
    this.#decoder.decode(bytes, range, this.#list);
  }

  #readRequest(bytes: Buffer, range: BlockRange): Prepared {
    const first = this.#decoder.decode(bytes, range, this.#list);
    const read = readRequestHead(this.#list);
    if (read.kind !== 'request') return read;
    const { method, path, host, scheme, headers, owned, isGrpc } = read.head;
    return {
      kind: 'request',
      http: { protocol: 'HTTP/2', scheme, method, path, host, headers },
      block: this.#rebuild(bytes, { start: first, end: range.end }, { cut: owned, own: this.#own }),
      isGrpc,
      headBytes: this.#list.bytes,
    };
  }

  /** Fields that stand for themselves are passed on as they came; those of a table are written out. */
  #rebuild(
    bytes: Buffer,
    range: BlockRange,
    change: { readonly cut: readonly number[]; readonly own: Uint8Array },
  ): Uint8Array {
    const { cut, own } = change;
    return this.#decoder.isTableless
      ? Buffer.concat([...this.#keptPieces(bytes, range, cut), own])
      : Buffer.concat([encodeFields(this.#keptFields(cut)), own]);
  }

  #keptPieces(bytes: Buffer, { start, end }: BlockRange, cut: readonly number[]): readonly Uint8Array[] {
    const { starts, ends } = this.#list;
    const pieces: Uint8Array[] = [];
    let from = start;
    for (const index of cut) {
      pieces.push(bytes.subarray(from, starts[index]));
      from = ends[index] ?? end;
    }
    pieces.push(bytes.subarray(from, end));
    return pieces;
  }

  #keptFields(cut: readonly number[]): Parameters<typeof encodeFields>[0] {
    const { names, values, isNeverIndexed } = this.#list;
    const all = names.map((name, i) => ({
      name,
      value: values[i] ?? '',
      isNeverIndexed: isNeverIndexed[i] ?? false,
    }));
    return all.filter((_, i) => !cut.includes(i));
  }
}

const NOTHING = new Uint8Array(0);

/** Of some 32 bytes of the block, and its length. */
function hashOf(bytes: Buffer, { start, end }: BlockRange): number {
  const step = Math.max(1, (end - start) >> 5);
  let hash = end - start;
  for (let at = start; at < end; at += step) hash = (Math.imul(hash, 31) + (bytes[at] ?? 0)) | 0;
  return hash;
}
