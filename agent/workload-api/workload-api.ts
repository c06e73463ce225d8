import {
  constants,
  createServer,
  type Http2Server,
  type Http2ServerRequest,
  type Http2ServerResponse,
  type ServerHttp2Session,
} from 'node:http2';
import { release } from 'node:os';
import { toPicketError } from '../../shared/errors/errors.ts';
import type { Clock } from '../../shared/runtime/clock.ts';
import { ConcurrencyLimit } from '../../shared/runtime/concurrency-limit.ts';
import type { Log } from '../../shared/runtime/log.ts';
import type { Running } from '../../shared/runtime/shutdown.ts';
import { descriptorOf, listenOnDescriptor } from '../../shared/runtime/unix-socket.ts';
import { ListeningSockets, type ListeningSocket, type SocketSource } from '../handover/listening-sockets.ts';
import type { IdentitySource } from '../identity/identity.ts';
import type { Quarantine } from '../quarantine/quarantine.ts';
import type { ProcessIdentifier } from '../workload-attestation/process-identity.ts';
import { openCaller, type Caller } from './caller.ts';
import type { Call, createGrpcAnswers, GrpcAnswers } from './grpc-answers.ts';

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
  /** Where the socket comes from. */
  readonly sockets?: SocketSource;
  readonly identities: IdentitySource;
  readonly processes: ProcessIdentifier;
  readonly quarantine: Pick<Quarantine, 'holdsOwn' | 'watch'>;
  readonly clock: Clock;
  readonly log: Log;
  readonly limits?: WorkloadApiLimits;
  /** Loads what answers calls, when the first one is made; what is part of the program unless given. Where it rejects, that call is reset, and the next one tries again. */
  readonly importAnswers?: () => Promise<AnswersModule>;
}

interface AnswersModule {
  readonly createGrpcAnswers: typeof createGrpcAnswers;
}

export interface WorkloadApi extends Running {
  /** How much is open now. */
  readonly connections: number;
  readonly streams: number;
}

const SOCKET_MODE = 0o777;

/**
 * Serves the SPIFFE Workload API, X.509 profile, by gRPC on a unix socket (SPIFFE_Workload_API.md, SPIFFE_Workload_Endpoint.md). Callers are told by the kernel.
 * Throws like `claimSocketPath`. `stop` ends the streams with Unavailable and removes the socket.
 */
export async function startWorkloadApi(options: WorkloadApiOptions): Promise<WorkloadApi> {
  const endpoint = new Endpoint(options);
  await endpoint.listen();
  return endpoint;
}

/** A connection of a process. */
interface Connection {
  readonly caller: Caller;
  calls: number;
  cancelIdle: () => void;
}

class Endpoint implements WorkloadApi {
  readonly #options: WorkloadApiOptions;
  readonly #limits: WorkloadApiLimits;
  readonly #server: Http2Server;
  readonly #connections = new Map<ServerHttp2Session, Connection>();
  readonly #connectionsPerUid: ConcurrencyLimit;
  readonly #streamsPerUid: ConcurrencyLimit;
  readonly #calls = new WeakMap<object, Call>();
  readonly #shutdown = new AbortController();
  readonly #kernelRelease = release();
  #listening: ListeningSocket | undefined;
  #answers: Promise<GrpcAnswers> | undefined;
  #streams = 0;

  constructor(options: WorkloadApiOptions) {
    this.#options = options;
    this.#limits = options.limits ?? DEFAULT_WORKLOAD_API_LIMITS;
    this.#connectionsPerUid = new ConcurrencyLimit(this.#limits.maxConnectionsPerUid);
    this.#streamsPerUid = new ConcurrencyLimit(this.#limits.maxStreamsPerUid);
    this.#server = createServer(
      { settings: { maxConcurrentStreams: this.#limits.maxStreamsPerConnection } },
      (request, response) => this.#take(request, response),
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
    const { path, sockets = new ListeningSockets() } = this.#options;
    this.#listening = await sockets.unix(path, SOCKET_MODE);
    await listenOnDescriptor(this.#server, this.#listening.fd);
  }

  async stop(): Promise<void> {
    this.#shutdown.abort();
    this.#server.close();
    const endMs = this.#options.clock.monotonicMs() + this.#limits.drainMs;
    while (this.#streams > 0 && this.#options.clock.monotonicMs() < endMs)
      await new Promise<void>((resolve) => this.#options.clock.schedule(10, resolve));
    for (const session of this.#connections.keys()) session.destroy();
    this.#listening?.closed();
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

  #take(request: Http2ServerRequest, response: Http2ServerResponse): void {
    const session = request.stream.session as ServerHttp2Session | undefined;
    const connection = session === undefined ? undefined : this.#connections.get(session);
    if (session === undefined || connection === undefined) return void response.destroy();
    const { caller } = connection;
    // Whoever it is now has to connect anew: what is under way is answered, and clients that keep connections open one.
    if (!caller.isSame()) session.close();
    connection.calls += 1;
    this.#watchIdle(session, connection);
    const leave = this.#streamsPerUid.tryEnter(String(caller.uid));
    this.#calls.set(request, { ...caller, hasPlace: leave !== undefined });
    this.#streams += 1;
    response.once('close', () => {
      this.#calls.delete(request);
      this.#streams -= 1;
      connection.calls -= 1;
      if (this.#connections.has(session)) this.#watchIdle(session, connection);
      leave?.();
    });
    void this.#answer(request, response);
  }

  async #answer(request: Http2ServerRequest, response: Http2ServerResponse): Promise<void> {
    try {
      const answer = await this.#loadAnswers();
      // An end that came before is not told again: the answer would go on for ever.
      if (this.#calls.has(request)) answer(request, response);
    } catch (error) {
      this.#options.log.error('workload_api_not_loaded', { error: toPicketError(error) });
      response.stream.close(constants.NGHTTP2_INTERNAL_ERROR);
    }
  }

  /** By the first who asks: gRPC and its messages are an eighth of what an agent has on its heap, and most hosts have nobody who does. */
  async #loadAnswers(): Promise<GrpcAnswers> {
    this.#answers ??= this.#createAnswers();
    try {
      return await this.#answers;
    } catch (error) {
      this.#answers = undefined;
      throw error;
    }
  }

  async #createAnswers(): Promise<GrpcAnswers> {
    const { importAnswers = async (): Promise<AnswersModule> => await import('./grpc-answers.ts') } =
      this.#options;
    const answers = await importAnswers();
    const { identities, processes, quarantine, clock, log } = this.#options;
    const { maxRequestBytes, maxResponseBytes, recheckMs } = this.#limits;
    return answers.createGrpcAnswers({
      sources: { identities, processes, quarantine, clock, log, recheckMs },
      callOf: (request) => this.#calls.get(request),
      maxRequestBytes,
      maxResponseBytes,
      stopping: this.#shutdown.signal,
    });
  }
}
