import { PicketError } from '../../shared/errors/errors.ts';
import { BODY_BYTES_PER_SECOND } from '../../shared/protocol/body-rate.ts';
import type { Clock } from '../../shared/runtime/clock.ts';

/** Every bound of the HTTP layer. Durations in milliseconds. */
export interface HttpLimits {
  /** TLS handshake, from accept to finished. */
  readonly handshakeMs: number;
  /** A connection on which no request is under way; a request head that is still coming counts as none. */
  readonly idleMs: number;
  /** How long a request's body may take, beside the time that its bytes have at `bodyBytesPerSecond`. */
  readonly bodyMs: number;
  /** The rate at which a body must come at least. */
  readonly bodyBytesPerSecond: number;
  /** An ordinary request, from its head to the start of its answer. */
  readonly requestMs: number;
  /** From a request's head to the last byte of its answer, as far as the answer has an end: whoever does not read it is cut. */
  readonly answerMs: number;
  /** How long a drain waits for requests under way. */
  readonly drainMs: number;
  readonly maxHeaderBytes: number;
  readonly maxConnections: number;
  /** Of peers that have proven nothing yet: beyond, the oldest of them is cut. */
  readonly maxUnprovenConnections: number;
  /** Of those, how many may come from one address. */
  readonly maxConnectionsPerAddress: number;
  /** Of one peer that has proven who it is. */
  readonly maxConnectionsPerActor: number;
  /** HTTP/2 streams at once on one connection. */
  readonly maxStreams: number;
  /** Requests at once of one identity (of one address where there is no identity). */
  readonly maxRequestsPerPeer: number;
  /** Documents for anybody that one address may read: so many at once, then so many each second. */
  readonly documentBurst: number;
  readonly documentsPerSecond: number;
  /** Attestation attempts of one address: so many at once, then so many each second. */
  readonly attestBurst: number;
  readonly attestPerSecond: number;
}

export const DEFAULT_LIMITS: HttpLimits = {
  handshakeMs: 5_000,
  idleMs: 60_000,
  bodyMs: 20_000,
  bodyBytesPerSecond: BODY_BYTES_PER_SECOND,
  requestMs: 30_000,
  answerMs: 180_000,
  drainMs: 10_000,
  maxHeaderBytes: 16 * 1024,
  maxConnections: 10_000,
  maxUnprovenConnections: 2048,
  maxConnectionsPerAddress: 256,
  maxConnectionsPerActor: 64,
  maxStreams: 64,
  maxRequestsPerPeer: 32,
  documentBurst: 20,
  documentsPerSecond: 1,
  attestBurst: 20,
  attestPerSecond: 5,
};

/** How often is looked whether a body comes, in milliseconds. */
const LOOK_MS = 1000;

/**
 * Reads a body of at most `maxBytes` within `bodyMs`, and so much longer as its bytes take at `bodyBytesPerSecond`. Throws `invalid_argument`, reason `body_too_large`, or `deadline_exceeded`, reason
 * `request_timeout`; the rest is not read then.
 */
export async function readBody(
  request: Request,
  limits: BodyBound & { readonly maxBytes: number; readonly clock: Clock },
): Promise<Uint8Array> {
  const announced = Number(request.headers.get('content-length') ?? 0);
  if (announced > limits.maxBytes) throw tooLarge(limits.maxBytes);
  if (request.body === null) return new Uint8Array();
  const reader = request.body.getReader();
  const timeOut = Promise.withResolvers<never>();
  const time = new BodyTime(limits, () => timeOut.reject(tooSlow(limits.bodyMs)));
  try {
    return await readAll(reader, { maxBytes: limits.maxBytes, time, timeOut: timeOut.promise });
  } catch (error) {
    void reader.cancel().catch(() => undefined);
    if (error instanceof PicketError) throw error;
    throw new PicketError('invalid_argument', 'body_incomplete', 'The body ended early', { cause: error });
  } finally {
    time.stop();
  }
}

/** How slowly a body may come. */
export type BodyBound = Pick<HttpLimits, 'bodyMs' | 'bodyBytesPerSecond'>;

/** The time that a body has left: what comes gives it more. It goes by looks, so that a server that had no time to read for long takes only a moment of it. */
class BodyTime {
  readonly #bound: BodyBound & { readonly clock: Clock };
  readonly #onOver: () => void;
  #leftMs: number;
  #cancel: () => void = () => undefined;

  constructor(bound: BodyBound & { readonly clock: Clock }, onOver: () => void) {
    this.#bound = bound;
    this.#onOver = onOver;
    this.#leftMs = bound.bodyMs;
    this.#wait();
  }

  came(bytes: number): void {
    this.#leftMs += (bytes / this.#bound.bodyBytesPerSecond) * 1000;
  }

  stop(): void {
    this.#cancel();
  }

  #wait(): void {
    const lookMs = Math.min(LOOK_MS, this.#leftMs);
    this.#cancel = this.#bound.clock.schedule(lookMs, () => {
      this.#leftMs -= lookMs;
      if (this.#leftMs > 0) this.#wait();
      else this.#onOver();
    });
  }
}

type ChunkRead = { readonly done: true } | { readonly done: false; readonly value: Uint8Array };

async function readAll(
  reader: { read(): Promise<ChunkRead> },
  bound: { readonly maxBytes: number; readonly time: BodyTime; readonly timeOut: Promise<never> },
): Promise<Uint8Array> {
  const chunks: Uint8Array[] = [];
  let length = 0;
  for (;;) {
    const chunk = await Promise.race([reader.read(), bound.timeOut]);
    if (chunk.done) return Buffer.concat(chunks, length);
    length += chunk.value.length;
    bound.time.came(chunk.value.length);
    if (length > bound.maxBytes) throw tooLarge(bound.maxBytes);
    chunks.push(chunk.value);
  }
}

function tooLarge(maxBytes: number): PicketError {
  return new PicketError('invalid_argument', 'body_too_large', `The body is larger than ${maxBytes} bytes`);
}

function tooSlow(bodyMs: number): PicketError {
  return new PicketError(
    'deadline_exceeded',
    'request_timeout',
    `The body did not come within ${bodyMs} ms, and comes too slowly`,
  );
}

/** Addresses whose buckets are remembered; beyond, new ones are refused until some have filled up again. */
const MAX_BUCKETS = 50_000;

/** A token bucket for each key: `burst` at once, then `perSecond`. */
export class RateLimit {
  readonly #options: { readonly burst: number; readonly perSecond: number; readonly clock: Clock };
  readonly #buckets = new Map<string, { tokens: number; atMs: number }>();

  constructor(options: { readonly burst: number; readonly perSecond: number; readonly clock: Clock }) {
    this.#options = options;
  }

  /** Takes a token of `key`; false when there is none. */
  tryTake(key: string): boolean {
    const nowMs = this.#options.clock.monotonicMs();
    const bucket = this.#bucket(key, nowMs);
    if (bucket === undefined) return false;
    bucket.tokens = this.#filled(bucket, nowMs);
    bucket.atMs = nowMs;
    if (bucket.tokens < 1) return false;
    bucket.tokens -= 1;
    return true;
  }

  #bucket(key: string, nowMs: number): { tokens: number; atMs: number } | undefined {
    const known = this.#buckets.get(key);
    if (known !== undefined) return known;
    if (this.#buckets.size >= MAX_BUCKETS) this.#forgetFull(nowMs);
    if (this.#buckets.size >= MAX_BUCKETS) return undefined;
    const bucket = { tokens: this.#options.burst, atMs: nowMs };
    this.#buckets.set(key, bucket);
    return bucket;
  }

  #forgetFull(nowMs: number): void {
    for (const [key, bucket] of this.#buckets)
      if (this.#filled(bucket, nowMs) >= this.#options.burst) this.#buckets.delete(key);
  }

  #filled(bucket: { readonly tokens: number; readonly atMs: number }, nowMs: number): number {
    const { burst, perSecond } = this.#options;
    return Math.min(burst, bucket.tokens + ((nowMs - bucket.atMs) / 1000) * perSecond);
  }
}
