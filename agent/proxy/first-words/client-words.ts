import { PicketError } from '../../../shared/errors/errors.ts';
import type { DecisionTls } from '../../../shared/policy/decision.ts';
import type { Clock } from '../../../shared/runtime/clock.ts';
import { classifyFirstBytes } from '../../../shared/wire/http1-detect.ts';
import { parseRequestHead, type RequestHead } from '../../../shared/wire/http1-head.ts';
import { readTlsWords } from '../../../shared/wire/tls-words.ts';
import type { ByteStream, StreamFailure } from '../streams/byte-stream.ts';
import { scanHead } from '../http1/head-scan.ts';
import { MAX_REQUEST_HEAD_BYTES } from '../http1/requests.ts';

/** What a client says first, as far as it names whom it wants. `bytes` are all that were read, none of them passed on. */
export type ClientWords =
  | { readonly kind: 'tls'; readonly bytes: Uint8Array; readonly tls: DecisionTls }
  /** `head` is undefined where it cannot be read in one way alone: the relay refuses it then. */
  | { readonly kind: 'http1'; readonly bytes: Uint8Array; readonly head: RequestHead | undefined }
  /** It names nobody: another protocol, silence, an early end. */
  | { readonly kind: 'nothing' }
  | { readonly kind: 'broken'; readonly failure: StreamFailure };

const NOTHING = { kind: 'nothing' } as const;

/** Reads a ClientHello or a request head, for at most `withinMs`. The stream is paused then, and its next reader attaches itself. */
export async function awaitClientWords(
  client: ByteStream,
  { clock, withinMs }: { readonly clock: Clock; readonly withinMs: number },
): Promise<ClientWords> {
  const { promise, resolve } = Promise.withResolvers<ClientWords>();
  const reader = new WordsReader();
  const settle = (words: ClientWords): void => {
    client.pause();
    resolve(words);
  };
  const cancel = clock.schedule(withinMs, () => settle(NOTHING));
  client.attach({
    onData: (bytes) => {
      const words = reader.take(bytes);
      if (words !== undefined) settle(words);
    },
    onEnd: () => settle(NOTHING),
    onDrain: () => undefined,
    onClose: (failure) => settle(failure === undefined ? NOTHING : { kind: 'broken', failure }),
  });
  const words = await promise;
  cancel();
  // What came in the meantime belongs to it.
  return 'bytes' in words ? { ...words, bytes: reader.bytes } : words;
}

/** Reads what comes in however many pieces: no line of a head is looked at twice, or 60 KB of short ones would cost a millisecond for each byte behind them. */
class WordsReader {
  bytes = Buffer.alloc(0);
  #isHttp1 = false;
  /** Of a head. */
  #scanned = 0;

  /** Undefined while more bytes are needed. */
  take(more: Uint8Array): ClientWords | undefined {
    this.bytes = Buffer.concat([this.bytes, more]);
    if (this.#isHttp1) return this.#wordsOfHead();
    const { bytes } = this;
    const tls = readTlsWords(bytes);
    if (tls === 'incomplete') return undefined;
    if (tls !== undefined) return { kind: 'tls', bytes, tls };
    const first = classifyFirstBytes(bytes);
    if (first === 'incomplete') return undefined;
    if (first !== 'http1') return NOTHING;
    this.#isHttp1 = true;
    return this.#wordsOfHead();
  }

  #wordsOfHead(): ClientWords | undefined {
    const { bytes } = this;
    const scan = scanHead(bytes, 0, this.#scanned);
    this.#scanned = bytes.length;
    if (scan.kind === 'incomplete' && bytes.length <= MAX_REQUEST_HEAD_BYTES) return undefined;
    const head = scan.kind === 'complete' ? readHead(bytes, scan.end) : undefined;
    return { kind: 'http1', bytes, head };
  }
}

function readHead(bytes: Buffer, end: number): RequestHead | undefined {
  try {
    return parseRequestHead(bytes, 0, end);
  } catch (error) {
    if (error instanceof PicketError) return undefined;
    throw error;
  }
}
