import { Code, ConnectError, createContextKey, createContextValues } from '@connectrpc/connect';
import type { ContextValues, HandlerContext } from '@connectrpc/connect';
import { connectNodeAdapter } from '@connectrpc/connect-node';
import { createServer, type Http2Server, type ServerHttp2Session } from 'node:http2';
import { rmSync } from 'node:fs';
import { release } from 'node:os';
import type { Clock } from '../../shared/runtime/clock.ts';
import { ConcurrencyLimit } from '../../shared/runtime/concurrency-limit.ts';
import type { Log } from '../../shared/runtime/log.ts';
import type { Running } from '../../shared/runtime/shutdown.ts';
import { claimSocketPath, descriptorOf, listenAtPath } from '../../shared/runtime/unix-socket.ts';
import type { IdentitySource } from '../identity/identity.ts';
import type { Quarantine } from '../quarantine/quarantine.ts';
import type { ProcessIdentifier } from '../workload-attestation/process-identity.ts';
import { buildX509BundlesResponse, buildX509SvidResponse } from './entitlement.ts';
import { streamEntitlement, type EntitlementSources } from './entitlement-stream.ts';
import {
  SpiffeWorkloadAPI,
  X509BundlesResponseSchema,
  X509SVIDResponseSchema,
} from './generated/workloadapi_pb.ts';
import { ServerReflection } from './generated/grpc/reflection/v1/reflection_pb.ts';
import { openCaller, type Caller } from './caller.ts';
import { createReflection } from './reflection.ts';

/** Every bound of the Workload API. */
export interface WorkloadApiLimits {
  readonly maxConnections: number;
  readonly maxConnectionsPerUid: number;
  readonly maxStreamsPerConnection: number;
  readonly maxStreamsPerUid: number;
  /** Of a request: all of them are empty or short. */
  readonly maxRequestBytes: number;
  /** Of an answer: what gRPC clients read unless told otherwise. */
  readonly maxResponseBytes: number;
  /** How long a connection may be without a call, in milliseconds. */
  readonly idleMs: number;
  /** How often each stream looks whether its process is still the same, in milliseconds. */
  readonly recheckMs: number;
  /** How long streams may take to end when the agent stops, in milliseconds. */
  readonly drainMs: number;
}

export const DEFAULT_WORKLOAD_API_LIMITS: WorkloadApiLimits = {
  maxConnections: 4096,
  maxConnectionsPerUid: 1024,
  maxStreamsPerConnection: 64,
  maxStreamsPerUid: 2048,
  maxRequestBytes: 64 * 1024,
  maxResponseBytes: 4 * 1024 * 1024,
  idleMs: 60_000,
  recheckMs: 5000,
  drainMs: 1000,
};

export interface WorkloadApiOptions {
  /** Of the unix socket. Every process of the host may connect; which one it is decides what it gets. */
  readonly path: string;
  readonly identities: IdentitySource;
  readonly processes: ProcessIdentifier;
  readonly quarantine: Pick<Quarantine, 'holdsOwn' | 'watch'>;
  readonly clock: Clock;
  readonly log: Log;
  readonly limits?: WorkloadApiLimits;
}

export interface WorkloadApi extends Running {
  /** How much is open now. */
  readonly connections: number;
  readonly streams: number;
}

/** SPIFFE_Workload_Endpoint.md 3: protects from requests that a server was tricked into. */
const SECURITY_HEADER = 'workload.spiffe.io';
const SOCKET_MODE = 0o777;

/**
 * Serves the SPIFFE Workload API, X.509 profile, by gRPC on a unix socket (SPIFFE_Workload_API.md, SPIFFE_Workload_Endpoint.md). Callers are told by the kernel.
 * Throws like `claimSocketPath`. `stop` ends the streams with Unavailable and removes the socket.
 */
export async function startWorkloadApi(options: WorkloadApiOptions): Promise<WorkloadApi> {
  await claimSocketPath(options.path);
  const endpoint = new Endpoint(options);
  await endpoint.listen();
  return endpoint;
}

/** A request under way. `hasPlace` is false beyond the limit of its user. */
interface Call extends Caller {
  readonly hasPlace: boolean;
}

/** A connection of a process. */
interface Connection {
  readonly caller: Caller;
  calls: number;
  cancelIdle: () => void;
}

const callKey = createContextKey<Call | undefined>(undefined);

class Endpoint implements WorkloadApi {
  readonly #options: WorkloadApiOptions;
  readonly #limits: WorkloadApiLimits;
  readonly #server: Http2Server;
  readonly #connections = new Map<ServerHttp2Session, Connection>();
  readonly #connectionsPerUid: ConcurrencyLimit;
  readonly #streamsPerUid: ConcurrencyLimit;
  readonly #shutdown = new AbortController();
  readonly #kernelRelease = release();
  #streams = 0;

  constructor(options: WorkloadApiOptions) {
    this.#options = options;
    this.#limits = options.limits ?? DEFAULT_WORKLOAD_API_LIMITS;
    this.#connectionsPerUid = new ConcurrencyLimit(this.#limits.maxConnectionsPerUid);
    this.#streamsPerUid = new ConcurrencyLimit(this.#limits.maxStreamsPerUid);
    this.#server = createServer(
      { settings: { maxConcurrentStreams: this.#limits.maxStreamsPerConnection } },
      this.#buildListener(),
    );
    this.#server.on('session', (session: ServerHttp2Session) => this.#admit(session));
    this.#server.on('sessionError', (error: Error) => options.log.debug('workload_api_session', { error }));
  }

  get connections(): number {
    return this.#connections.size;
  }

  get streams(): number {
    return this.#streams;
  }

  async listen(): Promise<void> {
    await listenAtPath(this.#server, this.#options.path, SOCKET_MODE);
  }

  async stop(): Promise<void> {
    this.#shutdown.abort(new ConnectError('The agent is stopping', Code.Unavailable));
    this.#server.close();
    const endMs = this.#options.clock.monotonicMs() + this.#limits.drainMs;
    while (this.#streams > 0 && this.#options.clock.monotonicMs() < endMs)
      await new Promise<void>((resolve) => this.#options.clock.schedule(10, resolve));
    for (const session of this.#connections.keys()) session.destroy();
    rmSync(this.#options.path, { force: true });
  }

  /** Notes who connected, at once: later the process may be another. */
  #admit(session: ServerHttp2Session): void {
    const fd = descriptorOf(session.socket);
    const { processes, log } = this.#options;
    const caller =
      fd === undefined ? undefined : openCaller(fd, { kernelRelease: this.#kernelRelease, processes, log });
    if (caller === undefined) {
      session.destroy();
      return;
    }
    const leave =
      this.#connections.size < this.#limits.maxConnections
        ? this.#connectionsPerUid.tryEnter(String(caller.uid))
        : undefined;
    if (leave === undefined) {
      log.debug('workload_api_overloaded', {
        uid: caller.uid,
        connections: this.#connections.size,
      });
      caller.close();
      session.destroy();
      return;
    }
    const connection = { caller, calls: 0, cancelIdle: () => undefined };
    this.#connections.set(session, connection);
    this.#watchIdle(session, connection);
    session.once('close', () => {
      this.#connections.delete(session);
      connection.cancelIdle();
      caller.close();
      leave();
    });
  }

  /** A process without an identity can hold a connection without a call, and there are so many places for all. */
  #watchIdle(session: ServerHttp2Session, connection: Connection): void {
    connection.cancelIdle();
    if (connection.calls > 0) return;
    connection.cancelIdle = this.#options.clock.schedule(this.#limits.idleMs, () => session.destroy());
  }

  #buildListener(): ReturnType<typeof connectNodeAdapter> {
    const calls = new WeakMap<object, Call>();
    const adapter = connectNodeAdapter({
      connect: false,
      grpcWeb: false,
      // No compression: key material beside what a caller chooses, and messages that grow when they are opened.
      acceptCompression: [],
      readMaxBytes: this.#limits.maxRequestBytes,
      writeMaxBytes: this.#limits.maxResponseBytes,
      shutdownSignal: this.#shutdown.signal,
      contextValues: (request): ContextValues => createContextValues().set(callKey, calls.get(request)),
      requestGate: requireServed,
      routes: (router) =>
        void router.service(SpiffeWorkloadAPI, this.#methods()).service(ServerReflection, {
          serverReflectionInfo: createReflection([SpiffeWorkloadAPI, ServerReflection]),
        }),
    });
    return (request, response) => {
      const session = ('stream' in request ? request.stream.session : undefined) as
        ServerHttp2Session | undefined;
      const connection = session === undefined ? undefined : this.#connections.get(session);
      if (session === undefined || connection === undefined) return void response.destroy();
      const { caller } = connection;
      // Whoever it is now has to connect anew: what is under way is answered, and clients that keep connections open one.
      if (!caller.isSame()) session.close();
      connection.calls += 1;
      this.#watchIdle(session, connection);
      const leave = this.#streamsPerUid.tryEnter(String(caller.uid));
      calls.set(request, { ...caller, hasPlace: leave !== undefined });
      this.#streams += 1;
      response.once('close', () => {
        this.#streams -= 1;
        connection.calls -= 1;
        if (this.#connections.has(session)) this.#watchIdle(session, connection);
        leave?.();
      });
      adapter(request, response);
    };
  }

  /** What is not here is answered Unimplemented: the JWT and WIT profiles. */
  #methods() {
    const { identities, processes, quarantine, clock, log } = this.#options;
    const sources: EntitlementSources = {
      identities,
      processes,
      quarantine,
      clock,
      log,
      recheckMs: this.#limits.recheckMs,
    };
    return {
      fetchX509SVID: (_request: unknown, context: HandlerContext) =>
        streamEntitlement(sources, callerOf(context), {
          schema: X509SVIDResponseSchema,
          build: buildX509SvidResponse,
        }),
      fetchX509Bundles: (_request: unknown, context: HandlerContext) =>
        streamEntitlement(sources, callerOf(context), {
          schema: X509BundlesResponseSchema,
          build: buildX509BundlesResponse,
        }),
    };
  }
}

/** Runs before anything of a request's body is read. */
function requireServed(context: HandlerContext): void {
  if (context.requestHeader.get(SECURITY_HEADER) !== 'true')
    throw new ConnectError(`The metadata ${SECURITY_HEADER}: true is missing`, Code.InvalidArgument);
  if (context.values.get(callKey)?.hasPlace !== true)
    throw new ConnectError('Too many calls of this user are under way', Code.Unavailable);
}

function callerOf(context: HandlerContext): { readonly caller: Caller; readonly signal: AbortSignal } {
  const call = context.values.get(callKey);
  if (call === undefined) throw new ConnectError('The caller is not known', Code.PermissionDenied);
  return { caller: call, signal: context.signal };
}
