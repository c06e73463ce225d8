import type { BigIntStats } from 'node:fs';
import { open, type FileHandle } from 'node:fs/promises';
import { PicketError } from '../../shared/errors/errors.ts';
import type { Clock } from '../../shared/runtime/clock.ts';

/** Remembered digests; the one unused for longest goes first. */
const MAX_REMEMBERED = 1024;
/** How many may wait for their turn. */
const MAX_WAITING = 256;
/** One file's time: a file system that does not answer must not hold up the others for ever. */
const TIMEOUT_MS = 10_000;
/** 256 KiB are hashed in less than half a millisecond. */
const CHUNK_BYTES = 256 * 1024;

/** SHA-256 of programs, one file at a time, each file once as long as it does not change. */
export class ExecutableDigests {
  readonly #maxBytes: number;
  readonly #clock: Clock;
  readonly #digests = new Map<string, string>();
  #turn: Promise<unknown> = Promise.resolve();
  #waiting = 0;

  constructor(options: { readonly maxBytes: number; readonly clock: Clock }) {
    this.#maxBytes = options.maxBytes;
    this.#clock = options.clock;
  }

  /**
   * The digest of an open file in lower-case hexadecimal. Rejects with `resource_exhausted`, reason `executable_too_large` or `digest_busy`; with
   * `deadline_exceeded`, reason `digest_timeout`; with `failed_precondition`, reason `executable_changed`, when it is written to meanwhile.
   */
  async digest(file: FileHandle): Promise<string> {
    const stat = await file.stat({ bigint: true });
    if (stat.size > BigInt(this.#maxBytes))
      throw refusal(
        'resource_exhausted',
        'executable_too_large',
        `it is larger than ${this.#maxBytes} bytes`,
      );
    const key = versionOf(stat);
    const known = this.#digests.get(key);
    if (known !== undefined) this.#remember(key, known);
    return known ?? (await this.#digestInTurn(file, key));
  }

  async #digestInTurn(file: FileHandle, key: string): Promise<string> {
    if (this.#waiting >= MAX_WAITING)
      throw refusal('resource_exhausted', 'digest_busy', 'too many wait for theirs');
    this.#waiting++;
    const turn = this.#turn.then(async () => {
      const known = this.#digests.get(key);
      return known ?? (await this.#read(file, key));
    });
    this.#turn = turn.catch(() => undefined).finally(() => this.#waiting--);
    return await turn;
  }

  async #read(file: FileHandle, key: string): Promise<string> {
    const timeout = Promise.withResolvers<never>();
    const late = refusal('deadline_exceeded', 'digest_timeout', `it took longer than ${TIMEOUT_MS} ms`);
    const cancel = this.#clock.schedule(TIMEOUT_MS, () => timeout.reject(late));
    const endMs = this.#clock.monotonicMs() + TIMEOUT_MS;
    try {
      const isLate = (): boolean => this.#clock.monotonicMs() > endMs;
      const digest = await Promise.race([hash(file, { isLate, maxBytes: this.#maxBytes }), timeout.promise]);
      const after = await file.stat({ bigint: true });
      if (versionOf(after) !== key)
        throw refusal('failed_precondition', 'executable_changed', 'it is being written to');
      this.#remember(key, digest);
      return digest;
    } finally {
      cancel();
    }
  }

  #remember(key: string, digest: string): void {
    this.#digests.delete(key);
    this.#digests.set(key, digest);
    const [oldest] = this.#digests.keys();
    if (this.#digests.size > MAX_REMEMBERED && oldest !== undefined) this.#digests.delete(oldest);
  }
}

/** Opens the program that a process runs, whatever its path says: it cannot be exchanged behind this descriptor. Undefined when it may not be read. */
export async function openExecutable(pid: number): Promise<FileHandle | undefined> {
  try {
    return await open(`/proc/${pid}/exe`, 'r');
  } catch {
    return undefined;
  }
}

/** Changes with every write, also where the writer set the modification time back. */
function versionOf({ dev, ino, size, ctimeNs }: BigIntStats): string {
  return `${dev} ${ino} ${size} ${ctimeNs}`;
}

async function hash(
  file: FileHandle,
  { isLate, maxBytes }: { readonly isLate: () => boolean; readonly maxBytes: number },
): Promise<string> {
  const hasher = new Bun.CryptoHasher('sha256');
  const chunk = Buffer.allocUnsafe(CHUNK_BYTES);
  for (let at = 0; at <= maxBytes && !isLate();) {
    const { bytesRead } = await file.read(chunk, 0, CHUNK_BYTES, at);
    if (bytesRead === 0) return hasher.digest('hex');
    hasher.update(chunk.subarray(0, bytesRead));
    at += bytesRead;
  }
  throw refusal('failed_precondition', 'executable_changed', 'it grows, or is read too slowly');
}

function refusal(
  code: 'resource_exhausted' | 'deadline_exceeded' | 'failed_precondition',
  reason: string,
  why: string,
): PicketError {
  return new PicketError(code, reason, `Cannot hash a program: ${why}`);
}
