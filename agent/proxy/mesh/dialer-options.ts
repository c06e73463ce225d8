import type { Clock } from '../../../shared/runtime/clock.ts';
import type { Log } from '../../../shared/runtime/log.ts';
import type { Running } from '../../../shared/runtime/shutdown.ts';
import type { IdentitySource } from '../../identity/identity.ts';
import type { MeshDialer, MeshObserver } from './mesh.ts';
import type { PoolLimits } from './pool.ts';
import type { SpareLimits } from './spares.ts';

/** What a mesh dialer bears, in numbers. */
export interface MeshDialerLimits extends PoolLimits, SpareLimits {
  /** For TCP and TLS together. */
  readonly connectMs: number;
  /** How long the other host may take to decide and to reach its application. */
  readonly answerMs: number;
  /** A connection that is older is not used again. */
  readonly maxAgeMs: number;
  /** Openings that wait for their outcome. */
  readonly maxOpenings: number;
  /** Connections that are being set up to one address; more wait up to `connectMs`. */
  readonly maxHandshakesPerPeer: number;
  /** Tickets that are kept. */
  readonly maxTickets: number;
  /** How long connections may finish what they carry when the dialer stops. */
  readonly drainMs: number;
}

/** `idleMs` is below the listener's, so that it is we who close; `answerMs` above its `openingMs`, so that it is the other host that gives up and records it. */
export const DEFAULT_MESH_DIALER_LIMITS: MeshDialerLimits = {
  connectMs: 10_000,
  answerMs: 35_000,
  idleMs: 300_000,
  maxIdle: 2048,
  maxIdlePerKey: 128,
  maxSparesPerKey: 0,
  maxSpares: 256,
  maxAgeMs: 3_600_000,
  maxOpenings: 8192,
  maxHandshakesPerPeer: 64,
  maxTickets: 2048,
  drainMs: 2000,
};

export interface MeshDialerOptions {
  /** Where the other agents listen; `MESH_PORT` by default. */
  readonly meshPort?: number;
  /** As `dialMarked` takes it. */
  readonly mark: number;
  readonly identities: Pick<IdentitySource, 'identities' | 'bundles'>;
  readonly clock: Clock;
  readonly log: Log;
  readonly limits?: Partial<MeshDialerLimits>;
  readonly observer?: MeshObserver;
}

export interface RunningMeshDialer extends MeshDialer, Running {
  /** TLS connections that are open, idle ones included. */
  readonly connections: number;
  readonly idleConnections: number;
  /** As `MeshListener.leavingConnections`. */
  readonly leavingConnections: number;
  /** As `MeshListener.reconsiderAll`. */
  reconsiderAll(): void;
  /** Keeps no connection for another use; what is asked for is still opened. */
  drain(): void;
}
