import { z } from 'zod';
import { parseSelector, type Selector } from '../spiffe/selector.ts';
import { parseSpiffeId, type SpiffeId } from '../spiffe/spiffe-id.ts';
import { parseTrustDomain, type TrustDomain } from '../spiffe/trust-domain.ts';

/** The building blocks of every message between agent, server and operator: each is bounded, each becomes its branded type. */

/** A SPIFFE ID in its one spelling. */
export const spiffeId = z
  .string()
  .max(2048)
  .transform(parsed(parseSpiffeId))
  .meta({ type: 'string', example: 'spiffe://example.org/ns/billing/sa/invoices' }) as unknown as z.ZodType<
  SpiffeId,
  string
>;

export const trustDomain = z.string().max(255).transform(parsed(parseTrustDomain)) as unknown as z.ZodType<
  TrustDomain,
  string
>;

export const selector = z.string().max(1024).transform(parsed(parseSelector)) as unknown as z.ZodType<
  Selector,
  string
>;

/** Bytes as base64 of at most `maxBytes` decoded bytes; the value inside the program stays the base64 text. */
export function base64(maxBytes: number): z.ZodString {
  return z
    .string()
    .max(Math.ceil(maxBytes / 3) * 4)
    .regex(/^[A-Za-z0-9+/]*={0,2}$/, 'is not base64');
}

/** SHA-256 as 64 lower-case hexadecimal digits. */
export const sha256Hex = z.string().regex(/^[0-9a-f]{64}$/, 'is not a SHA-256 in lower-case hexadecimal');

/** The years 1 to 9999 in UTC: what RFC 3339, JavaScript and PostgreSQL write alike. */
const FIRST_MS = Date.parse('0001-01-01T00:00:00.000Z');
const LAST_MS = Date.parse('9999-12-31T23:59:59.999Z');

/** An instant as RFC 3339, in the years 1 to 9999. */
export const timestamp = z.iso.datetime({ offset: true }).refine((text) => {
  const ms = Date.parse(text);
  return ms >= FIRST_MS && ms <= LAST_MS;
}, 'is not within the years 1 to 9999');

export const port = z.number().int().min(1).max(65535);

/** An IPv4 or IPv6 address in text form. */
export const ipAddress = z.union([z.ipv4(), z.ipv6()], { error: 'is not an IPv4 or IPv6 address' });

/** A counter that fits a double exactly. */
export const counter = z.number().int().min(0).max(Number.MAX_SAFE_INTEGER);

function parsed<T>(parse: (text: string) => T) {
  return (text: string, context: z.core.$RefinementCtx): T => {
    try {
      return parse(text);
    } catch (error) {
      context.issues.push({
        code: 'custom',
        input: text,
        message: error instanceof Error ? error.message : 'is not valid',
      });
      return z.NEVER;
    }
  };
}

/** A DNS name in lower case (RFC 1123); an internationalized one in its ASCII form. */
export const dnsName = z
  .string()
  .max(253)
  .regex(/^(?!-)[a-z0-9-]+(\.[a-z0-9-]+)*$/, 'is not a DNS name in lower case');
