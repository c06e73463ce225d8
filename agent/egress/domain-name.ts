const MAX_NAME = 253;
const LABEL = /^[a-z0-9_](?:[a-z0-9_-]{0,61}[a-z0-9_])?$/;
const ALL_DIGITS = /^\d+$/;

/**
 * A DNS name as policies write it: lower case, without port and without a last dot. Undefined for what is none: addresses, empty labels, letters that DNS does
 * not carry (a name of another script stands in its ASCII form, RFC 5890), more than 253 characters. The last label is never a number, or it would be an
 * address to some resolvers (RFC 3696, 2).
 */
export function domainNameOf(host: string): string | undefined {
  const name = host
    .toLowerCase()
    .replace(/:\d{1,5}$/, '')
    .replace(/\.$/, '');
  const labels = name.split('.');
  if (name.length > MAX_NAME || !labels.every((label) => LABEL.test(label))) return undefined;
  const last = labels.at(-1) ?? '';
  return ALL_DIGITS.test(last) || last.startsWith('0x') ? undefined : name;
}
