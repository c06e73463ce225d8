import { z } from 'zod';
import { PicketError } from '../errors/errors.ts';

/** Building blocks of the configuration files of both roles. Names in a file are snake_case; unknown keys are refused everywhere. */

/** A host and a port of it. */
export interface HostAndPort {
  /** A name, an IPv4 address, or an IPv6 address without brackets. */
  readonly host: string;
  readonly port: number;
}

const HOST_AND_PORT = /^(?:\[([0-9a-fA-F:.]+)\]|([A-Za-z0-9._-]{1,253})):(\d{1,5})$/;

/** Longest path of a unix socket (sockaddr_un holds 108 bytes with the NUL). */
const MAX_SOCKET_PATH = 107;

export const absolutePath = z.string().max(4096).regex(/^\//, 'must be an absolute path');

export const socketPath = absolutePath.max(MAX_SOCKET_PATH, `must be at most ${MAX_SOCKET_PATH} bytes long`);

/** `HOST:PORT`, an IPv6 address in brackets. */
export const hostAndPort = z
  .string()
  .max(320)
  .transform((text, context): HostAndPort => {
    const [, ipv6, name, digits] = HOST_AND_PORT.exec(text) ?? [];
    const host = ipv6 ?? name;
    const number = Number(digits);
    const isUsable = host !== undefined && number >= 1 && number <= 65_535;
    if (isUsable && (ipv6 === undefined || z.ipv6().safeParse(ipv6).success)) return { host, port: number };
    context.issues.push({ code: 'custom', input: text, message: 'must be HOST:PORT, such as 10.0.0.1:8443' });
    return z.NEVER;
  });

/** Nothing that listens for people of the host may be reached from another one. */
export const loopbackAddress = hostAndPort.refine(
  ({ host }) => /^127\.\d+\.\d+\.\d+$/.test(host) || host === '::1',
  'must be a loopback address, such as 127.0.0.1:15020',
);

export const logLevel = z.enum(['debug', 'info', 'warn', 'error']).default('info');

/** Checks what stands in a configuration file. Throws `invalid_argument`, reason `config_invalid`, with every setting that is wrong in `details.faults`. */
export function parseConfig<T extends z.ZodType>(schema: T, value: unknown, whose: string): z.output<T> {
  const parsed = schema.safeParse(value);
  if (parsed.success) return parsed.data;
  const faults = parsed.error.issues.map((issue) => ({
    message: issue.path.length === 0 ? issue.message : `${issue.path.join('.')}: ${messageOf(issue)}`,
  }));
  throw new PicketError('invalid_argument', 'config_invalid', `The configuration of the ${whose} is wrong`, {
    details: { faults },
  });
}

/** Of a name that may not stand there, what names must be like. */
function messageOf(issue: z.core.$ZodIssue): string {
  const [why] = issue.code === 'invalid_key' ? issue.issues : [];
  return why?.message ?? issue.message;
}
