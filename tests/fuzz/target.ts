import { PicketError } from '../../shared/errors/errors.ts';

/** A parser under test with what is known of its inputs. */
export interface FuzzTarget {
  /** Real inputs, at least one. The same at every run: a seed repeats a run only then. */
  readonly seeds: readonly Uint8Array[];
  /** Words of the format. */
  readonly dictionary: readonly Uint8Array[];
  /** Inputs are not grown beyond this. */
  readonly maxBytes: number;
  /**
   * Parses an input and checks what came out. Returns a short text that is equal for inputs that went the same way: a new one keeps the
   * input for later mutations. A `PicketError` is a refusal; anything else that is thrown is a finding.
   */
  readonly check: (input: Buffer) => string | Promise<string>;
}

/** What a check throws when a parser returned something that it promises never to return. */
export class BrokenInvariant extends Error {
  override readonly name = 'BrokenInvariant';
}

/** Throws `BrokenInvariant` unless it holds. */
export function requireThat(holds: boolean, what: string): asserts holds {
  if (!holds) throw new BrokenInvariant(what);
}

/** Throws `BrokenInvariant` unless both are the same when written as JSON. */
export function requireSame(actual: unknown, expected: unknown, what: string): void {
  if (Bun.deepEquals(actual, expected, true)) return;
  const show = (value: unknown): string => (Bun.inspect(value) ?? '').slice(0, 400);
  throw new BrokenInvariant(`${what}: ${show(actual)} is not ${show(expected)}`);
}

/** What `parse` returns, or the refusal that it throws; another exception passes through and is a finding. */
export function attempt<T>(
  parse: () => T,
):
  | { readonly value: T; readonly refusal?: undefined }
  | { readonly value?: undefined; readonly refusal: PicketError } {
  try {
    return { value: parse() };
  } catch (error) {
    if (error instanceof PicketError) return { refusal: error };
    throw error;
  }
}

/** As `attempt`, for what is read with a promise. */
export async function attemptAsync<T>(
  parse: () => Promise<T>,
): Promise<
  | { readonly value: T; readonly refusal?: undefined }
  | { readonly value?: undefined; readonly refusal: PicketError }
> {
  try {
    return { value: await parse() };
  } catch (error) {
    if (error instanceof PicketError) return { refusal: error };
    throw error;
  }
}

/** The way that a refused input went: reason and message without what the input put into it. */
export function outcomeOfRefusal({ reason, message }: PicketError): string {
  const shape = message
    .replaceAll(/"[^]*"/g, '""')
    .replaceAll(/\d+/g, 'N')
    .replaceAll(/[^ -~]+/g, '?');
  return `${reason}: ${shape.slice(0, 120)}`;
}

/** The bytes of texts in UTF-8. */
export function words(...texts: readonly string[]): readonly Uint8Array[] {
  return texts.map((text) => new TextEncoder().encode(text));
}

/** The bytes of hexadecimal texts. */
export function hexWords(...texts: readonly string[]): readonly Uint8Array[] {
  return texts.map((text) => Uint8Array.from(Buffer.from(text, 'hex')));
}

/** Where to cut an input into pieces, drawn from the input itself so that it repeats. Ascending, without 0. */
export function cutsOf(input: Uint8Array): readonly number[] {
  const cuts = new Set<number>();
  let state = Bun.hash.crc32(input);
  for (let i = 0; i < 6 && input.length > 1; i++) {
    state = (Math.imul(state, 1_664_525) + 1_013_904_223) >>> 0;
    cuts.add(1 + (state % (input.length - 1)));
  }
  return [...cuts].toSorted((a, b) => a - b);
}

/** The input in the pieces of `cutsOf`. */
export function piecesOf(input: Buffer): readonly Buffer[] {
  const cuts = cutsOf(input);
  return [0, ...cuts].map((start, index) => Buffer.from(input.subarray(start, cuts[index] ?? input.length)));
}
