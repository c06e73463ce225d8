import { Code, ConnectError, createContextKey, createContextValues } from '@connectrpc/connect';
import type { ContextValues, HandlerContext } from '@connectrpc/connect';
import { connectNodeAdapter } from '@connectrpc/connect-node';
import type { Caller } from './caller.ts';
import { buildX509BundlesResponse, buildX509SvidResponse } from './entitlement.ts';
import { streamEntitlement, type EntitlementSources } from './entitlement-stream.ts';
import {
  SpiffeWorkloadAPI,
  X509BundlesResponseSchema,
  X509SVIDResponseSchema,
} from './generated/workloadapi_pb.ts';
import { ServerReflection } from './generated/grpc/reflection/v1/reflection_pb.ts';
import { createReflection } from './reflection.ts';

/** A request under way. `hasPlace` is false beyond the limit of its user. */
export interface Call extends Caller {
  readonly hasPlace: boolean;
}

export interface GrpcAnswersOptions {
  readonly sources: EntitlementSources;
  /** Who makes a request. */
  readonly callOf: (request: object) => Call | undefined;
  readonly maxRequestBytes: number;
  readonly maxResponseBytes: number;
  /** Ends all streams with Unavailable. */
  readonly stopping: AbortSignal;
}

/** Answers a request over HTTP/2. */
export type GrpcAnswers = ReturnType<typeof connectNodeAdapter>;

/** SPIFFE_Workload_Endpoint.md 3: protects from requests that a server was tricked into. */
const SECURITY_HEADER = 'workload.spiffe.io';

const callKey = createContextKey<Call | undefined>(undefined);

/** The methods of the Workload API over gRPC. What is not here is answered Unimplemented: the JWT and WIT profiles. */
export function createGrpcAnswers(options: GrpcAnswersOptions): GrpcAnswers {
  return connectNodeAdapter({
    connect: false,
    grpcWeb: false,
    // No compression: key material beside what a caller chooses, and messages that grow when they are opened.
    acceptCompression: [],
    readMaxBytes: options.maxRequestBytes,
    writeMaxBytes: options.maxResponseBytes,
    shutdownSignal: endOfStreams(options.stopping),
    contextValues: (request): ContextValues => createContextValues().set(callKey, options.callOf(request)),
    requestGate: requireServed,
    routes: (router) =>
      void router.service(SpiffeWorkloadAPI, methodsOf(options.sources)).service(ServerReflection, {
        serverReflectionInfo: createReflection([SpiffeWorkloadAPI, ServerReflection]),
      }),
  });
}

/** What an aborted call is told is the reason of its signal. */
function endOfStreams(stopping: AbortSignal): AbortSignal {
  const end = new AbortController();
  const abort = (): void => end.abort(new ConnectError('The agent is stopping', Code.Unavailable));
  if (stopping.aborted) abort();
  else stopping.addEventListener('abort', abort, { once: true });
  return end.signal;
}

function methodsOf(sources: EntitlementSources) {
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
