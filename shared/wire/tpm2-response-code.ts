/** Names of TPM_RC values (Part 2, 6.6.3) that a person may meet; format-one codes without their number and kind. */
const FORMAT_ONE: Readonly<Record<number, string>> = {
  0x081: 'TPM_RC_ASYMMETRIC',
  0x082: 'TPM_RC_ATTRIBUTES',
  0x083: 'TPM_RC_HASH',
  0x084: 'TPM_RC_VALUE',
  0x085: 'TPM_RC_HIERARCHY',
  0x087: 'TPM_RC_KEY_SIZE',
  0x08a: 'TPM_RC_TYPE',
  0x08b: 'TPM_RC_HANDLE',
  0x08e: 'TPM_RC_AUTH_FAIL',
  0x092: 'TPM_RC_SCHEME',
  0x095: 'TPM_RC_SIZE',
  0x096: 'TPM_RC_SYMMETRIC',
  0x09a: 'TPM_RC_INSUFFICIENT',
  0x09b: 'TPM_RC_SIGNATURE',
  0x09c: 'TPM_RC_KEY',
  0x09d: 'TPM_RC_POLICY_FAIL',
  0x09f: 'TPM_RC_INTEGRITY',
  0x0a2: 'TPM_RC_BAD_AUTH',
  0x0a6: 'TPM_RC_CURVE',
  0x0a7: 'TPM_RC_ECC_POINT',
};

const FORMAT_ZERO: Readonly<Record<number, string>> = {
  0x100: 'TPM_RC_INITIALIZE',
  0x101: 'TPM_RC_FAILURE',
  0x120: 'TPM_RC_DISABLED',
  0x121: 'TPM_RC_EXCLUSIVE',
  0x12f: 'TPM_RC_AUTH_UNAVAILABLE',
  0x143: 'TPM_RC_COMMAND_CODE',
  0x149: 'TPM_RC_NV_UNINITIALIZED',
  0x901: 'TPM_RC_CONTEXT_GAP',
  0x902: 'TPM_RC_OBJECT_MEMORY (too many loaded objects)',
  0x903: 'TPM_RC_SESSION_MEMORY (too many loaded sessions)',
  0x904: 'TPM_RC_MEMORY',
  0x905: 'TPM_RC_SESSION_HANDLES',
  0x908: 'TPM_RC_YIELDED',
  0x909: 'TPM_RC_CANCELED',
  0x90a: 'TPM_RC_TESTING',
  0x910: 'TPM_RC_REFERENCE_H0',
  0x918: 'TPM_RC_REFERENCE_S0',
  0x921: 'TPM_RC_LOCKOUT',
  0x922: 'TPM_RC_RETRY',
};

/** YIELDED, TESTING and RETRY: the TPM did nothing yet and wants the same command again. */
const BUSY: ReadonlySet<number> = new Set([0x908, 0x90a, 0x922]);

/** Codes after which the same command may succeed: warnings on memory, yielding, self-test, lockout and retry. */
const RETRYABLE: ReadonlySet<number> = new Set([0x902, 0x903, 0x904, 0x908, 0x909, 0x90a, 0x921, 0x922]);

const IS_FORMAT_ONE = 0x080;
const IS_PARAMETER = 0x040;
const IS_SESSION = 0x800;

/** A response code in words, with which handle, session or parameter it is about: `TPM_RC_HANDLE for handle 1 (0x18b)`. */
export function describeTpmResponseCode(code: number): string {
  const hex = `0x${code.toString(16)}`;
  if ((code & IS_FORMAT_ONE) === 0) return `${FORMAT_ZERO[code] ?? 'unknown code'} (${hex})`;
  const name = FORMAT_ONE[tpmErrorOf(code)] ?? 'unknown code';
  const number = (code >> 8) & 0xf;
  if (code & IS_PARAMETER) return `${name} for parameter ${number} (${hex})`;
  return `${name} for ${code & IS_SESSION ? 'session' : 'handle'} ${number & 7} (${hex})`;
}

/** The error without the number of the handle, session or parameter that it is about: 0x18b is 0x08b (TPM_RC_HANDLE). */
export function tpmErrorOf(code: number): number {
  return (code & IS_FORMAT_ONE) === 0 ? code : code & 0xbf;
}

/** Whether the TPM asks for the same command again in a moment. */
export function isTpmBusy(code: number): boolean {
  return BUSY.has(code);
}

/** Whether sending the same command later can succeed. */
export function isTpmRetryable(code: number): boolean {
  return RETRYABLE.has(code);
}
