/** JSON as it crosses the border of the wasm module. Sets arrive as arrays. */
export type Json = null | boolean | number | string | readonly Json[] | { readonly [key: string]: Json };

/** What a builtin gives: JSON, JSON text in bytes (for integers that a double cannot hold), or undefined for Rego's undefined. */
export type BuiltinResult = Json | ArrayBuffer | undefined;

/**
 * A builtin of ours. An argument of a wrong type or value is undefined, as OPA has it outside of its strict mode; nothing is thrown for it.
 * Everything that a builtin makes is bounded.
 */
export type Builtin = (...args: readonly Json[]) => BuiltinResult;

export type Builtins = Readonly<Record<string, Builtin>>;

/** An integer beyond 2^53 as the module takes it exactly. */
export function toExactInteger(value: bigint): ArrayBuffer {
  return new TextEncoder().encode(value.toString()).buffer;
}

/**
 * The integer behind a JSON number. The shortest text of a double names the integer that was written, as long as that has no more than
 * 15 significant digits: times in nanoseconds that were made of milliseconds come through exactly, others to about 128 ns.
 */
export function findInteger(value: Json | undefined): bigint | undefined {
  if (typeof value !== 'number' || !Number.isInteger(value) || Math.abs(value) >= 1e21) return undefined;
  return BigInt(value.toString());
}
