import { readFile } from 'node:fs/promises';
import type { Socket } from 'node:net';
import { PicketError } from '../../shared/errors/errors.ts';
import type { SocketAddress } from '../native/socket-address.ts';
import { createMarkedAgent } from '../outgoing/marked-agents.ts';
import { OpenTelemetryTraces, type OpenTelemetryOptions } from './open-telemetry.ts';

export interface OpenTracesOptions extends Omit<OpenTelemetryOptions, 'agent'> {
  /** Makes connections that capture lets pass. */
  readonly dial: (destination: SocketAddress) => Socket;
}

/** Traces to the configured receiver, whether it is there yet or not. Throws `invalid_argument`, reason `file_unreadable`, for a file of authorities that cannot be read. */
export async function openTraces({ dial, ...options }: OpenTracesOptions): Promise<OpenTelemetryTraces> {
  const { endpoint, caFile } = options.config;
  const protocol = endpoint.startsWith('https:') ? 'https:' : 'http:';
  const ca = caFile === undefined ? {} : { ca: await readAuthorities(caFile) };
  return new OpenTelemetryTraces({ ...options, agent: createMarkedAgent(protocol, { dial, ...ca }) });
}

async function readAuthorities(path: string): Promise<string> {
  try {
    return await readFile(path, 'utf8');
  } catch (cause) {
    throw new PicketError('invalid_argument', 'file_unreadable', `Cannot read ${path}`, { cause });
  }
}
