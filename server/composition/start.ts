import { randomBytes } from 'node:crypto';
import { systemClock } from '../../shared/runtime/clock.ts';
import type { Log } from '../../shared/runtime/log.ts';
import type { Shutdown } from '../../shared/runtime/shutdown.ts';
import type { ServerConfig } from '../config.ts';
import type { FindPeerCredentials } from '../http/listeners/unix-listener.ts';
import type { ConfigLocation } from '../load-config.ts';

/** What the process gives to the role. */
export interface ServerRuntime extends ConfigLocation {
  readonly version: string;
  /** SO_PEERCRED of a unix socket. */
  readonly findPeerCredentials: FindPeerCredentials;
  readonly writeLog: (line: string) => void;
}

/** What every part of the server is built with. */
export interface Start {
  readonly config: ServerConfig;
  readonly runtime: ServerRuntime;
  readonly log: Log;
  /** Whatever is started is added: it stops in the reverse order. */
  readonly shutdown: Shutdown;
}

export const clock = systemClock;
/** For delays; never for secrets. */
export const random = (): number => Math.random();
export const secureRandom = (length: number): Uint8Array => randomBytes(length);
