import { readFileSync } from 'node:fs';
import { ptr } from 'bun:ffi';
import { PicketError } from '../../shared/errors/errors.ts';
import { allocateNative, errno, errnoName, libc } from './libc.ts';

const POINTER_BYTES = 8;
const SELF = '/proc/self/exe';

/**
 * Starts this program anew in this very process (execve(2)): same pid, same arguments, another environment. Returns only by throwing: `internal`,
 * reason `process_not_replaced`. To be called before anything was opened.
 */
export function replaceProcess(environment: Readonly<Record<string, string | undefined>>): never {
  const set = Object.entries(environment).flatMap(([name, value]) =>
    value === undefined ? [] : [`${name}=${value}`],
  );
  const args = nativeStrings(commandLine());
  const env = nativeStrings(set);
  libc().execve(ptr(nativeString(SELF)), ptr(args.pointers), ptr(env.pointers));
  const reason = errnoName(errno());
  // Until here the strings must live: only their addresses were handed over.
  const strings = args.strings.length + env.strings.length;
  throw new PicketError(
    'internal',
    'process_not_replaced',
    `Cannot start anew with ${strings} strings: ${reason}`,
  );
}

/** As the kernel has it: what Bun shows of it is not all for a compiled program. */
function commandLine(): readonly string[] {
  return readFileSync('/proc/self/cmdline', 'utf8').split('\0').slice(0, -1);
}

function nativeString(text: string): Buffer {
  const bytes = Buffer.from(text);
  const native = allocateNative(bytes.length + 1);
  bytes.copy(native);
  return native;
}

/** An array of strings as C has it: addresses, the last one null. */
function nativeStrings(texts: readonly string[]): {
  readonly pointers: Buffer;
  readonly strings: readonly Buffer[];
} {
  const strings = texts.map(nativeString);
  const pointers = allocateNative((strings.length + 1) * POINTER_BYTES);
  for (const [i, string] of strings.entries())
    pointers.writeBigUInt64LE(BigInt(ptr(string)), i * POINTER_BYTES);
  return { pointers, strings };
}
