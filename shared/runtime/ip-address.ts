import { isIPv6 } from 'node:net';

/** The 4 or 16 bytes of an IP address. An IPv6 zone (`%eth0`) is not accepted. Throws TypeError for anything else. */
export function encodeIpAddress(address: string): Uint8Array {
  const dotted = readDotted(address);
  if (dotted !== undefined) return dotted;
  if (isIPv6(address) && !address.includes('%')) return encodeIpv6(address);
  throw new TypeError(`Cannot read IP address "${address.slice(0, 60)}"`);
}

/** The spelling of `SocketAddress`: dotted for 4 bytes and for IPv4-mapped IPv6, RFC 5952 for other 16 bytes. */
export function decodeIpAddress(bytes: Uint8Array): string {
  if (bytes.length === 4) return bytes.join('.');
  if (isIpv4Mapped(bytes)) return bytes.subarray(12).join('.');
  return formatIpv6(bytes);
}

/** Whether 16 bytes are an IPv4-mapped IPv6 address, `::ffff:0:0/96`. */
export function isIpv4Mapped(bytes: Uint8Array): boolean {
  for (let i = 0; i < 10; i++) if (bytes[i] !== 0) return false;
  return bytes[10] === 0xff && bytes[11] === 0xff;
}

const DOT = 0x2e;
const ZERO = 0x30;

/** Digit by digit: an expression and a split cost ten times as much, and each connection comes by here several times. */
function readDotted(text: string): Uint8Array | undefined {
  const bytes = new Uint8Array(4);
  let count = 0;
  let value: number | undefined;
  for (let at = 0; at <= text.length; at++) {
    const code = at < text.length ? text.charCodeAt(at) : DOT;
    if (code === DOT) {
      if (value === undefined || count === 4) return undefined;
      bytes[count++] = value;
      value = undefined;
      continue;
    }
    const digit = code - ZERO;
    // A leading zero would be octal to some.
    if (digit < 0 || digit > 9 || value === 0) return undefined;
    value = (value ?? 0) * 10 + digit;
    if (value > 255) return undefined;
  }
  return count === 4 ? bytes : undefined;
}

function encodeIpv6(address: string): Uint8Array {
  const [head = '', tail] = address.split('::');
  const front = groupsOf(head);
  const back = groupsOf(tail ?? '');
  const bytes = new Uint8Array(16);
  bytes.set(front);
  bytes.set(back, 16 - back.length);
  return bytes;
}

/** The bytes of colon-separated groups, the last of which may be dotted. */
function groupsOf(text: string): number[] {
  if (text === '') return [];
  return text.split(':').flatMap((group) => {
    if (group.includes('.')) return group.split('.').map(Number);
    const value = Number.parseInt(group, 16);
    return [value >> 8, value & 0xff];
  });
}

function formatIpv6(bytes: Uint8Array): string {
  const groups = Array.from({ length: 8 }, (_, i) => ((bytes[2 * i] ?? 0) << 8) | (bytes[2 * i + 1] ?? 0));
  const zeros = longestZeroRun(groups);
  const hex = groups.map((group) => group.toString(16));
  if (zeros.length < 2) return hex.join(':');
  return `${hex.slice(0, zeros.start).join(':')}::${hex.slice(zeros.start + zeros.length).join(':')}`;
}

/** The first of the longest runs of zero groups (RFC 5952 section 4.2.3). */
function longestZeroRun(groups: readonly number[]): { readonly start: number; readonly length: number } {
  let best = { start: 0, length: 0 };
  for (let start = 0; start < groups.length; start++) {
    let end = start;
    while (groups[end] === 0) end++;
    if (end - start > best.length) best = { start, length: end - start };
    start = Math.max(start, end - 1);
  }
  return best;
}
