import { PicketError } from '../errors/errors.ts';
import { pathOf, trustDomainOf, type SpiffeId } from '../spiffe/spiffe-id.ts';
import {
  describeUser,
  NO_NETWORKS,
  NO_USER,
  UNKNOWN_DEVICE,
  UNKNOWN_RISK,
  type DecisionNetworks,
  type DecisionUser,
} from './circumstances.ts';
import type {
  DecisionCaller,
  DecisionHttpRequest,
  DecisionRequest,
  DecisionTarget,
  DecisionTls,
} from './decision.ts';
import type { PolicyInput } from './policy-engine.ts';
import { NO_REQUEST_PATH, parseRequestPath, type RequestPath } from './request-path.ts';

/** What a decision needs beside its request. */
export interface DecisionContext {
  readonly nowMs: number;
  /** Which side asks: `inbound` is the called one. */
  readonly direction: 'inbound' | 'outbound';
  /** Nobody, unless given. */
  readonly user?: DecisionUser;
  /** None is known, unless given. */
  readonly networks?: DecisionNetworks;
}

const CLIENT_CERT_HEADER = 'x-forwarded-client-cert';

const WEEKDAYS = ['Sunday', 'Monday', 'Tuesday', 'Wednesday', 'Thursday', 'Friday', 'Saturday'];

/**
 * The input document: our own fields, and those of Envoy's external authorization, so that policies written for its OPA plugin run
 * unchanged. Every field that `policies/schema/input.json` names is there for a caller with an identity; one without lacks its SPIFFE ID,
 * trust domain, path and principal, and its certificate has ended in 1970. Throws PicketError `internal`, reason `policy_error`, for a
 * request that could be read in two ways; the caller takes that for a denial.
 */
export function buildPolicyInput(request: DecisionRequest, context: DecisionContext): PolicyInput {
  const { caller, target, http, tls, transport } = request;
  const path = http === null ? NO_REQUEST_PATH : parseRequestPath(http.path);
  const headers = http === null ? {} : buildHeaders(http, request);
  const nowIso = new Date(context.nowMs).toISOString();
  return {
    caller: { ...describeCaller(caller), address: caller.address, port: caller.port },
    target: {
      ...describeTarget(target.spiffeId),
      domain: target.domain ?? '',
      address: target.address,
      port: target.port,
    },
    request: describeRequest(http, { path, headers, tls, transport }),
    user: describeUser(context.user ?? NO_USER),
    device: UNKNOWN_DEVICE,
    context: describeContext(request, context),
    attributes: {
      source: {
        ...(caller.spiffeId === null ? {} : { principal: caller.spiffeId }),
        address: socketAddress(caller),
        certificate_expiration: caller.spiffeId === null ? 0 : toNs(caller.certificateNotAfterMs),
      },
      destination: { principal: target.spiffeId ?? '', address: socketAddress(target) },
      request: { time: nowIso, http: describeEnvoyRequest(request, headers) },
    },
    parsed_path: path.parsedPath,
    parsed_query: path.parsedQuery,
  };
}

function describeCaller({ spiffeId }: DecisionCaller): PolicyInput {
  return spiffeId === null
    ? {}
    : { spiffe_id: spiffeId, trust_domain: trustDomainOf(spiffeId), path: pathOf(spiffeId) };
}

/** A destination outside of the mesh has empty names, so that no rule on them holds by a field's absence. */
function describeTarget(spiffeId: SpiffeId | null): PolicyInput {
  return spiffeId === null
    ? { spiffe_id: '', trust_domain: '', path: '' }
    : { spiffe_id: spiffeId, trust_domain: trustDomainOf(spiffeId), path: pathOf(spiffeId) };
}

function describeRequest(
  http: DecisionHttpRequest | null,
  parts: {
    readonly path: RequestPath;
    readonly headers: Readonly<Record<string, string>>;
    readonly tls: DecisionTls | undefined;
    readonly transport: DecisionRequest['transport'];
  },
): PolicyInput {
  return {
    protocol: protocolOf({ http, ...parts }),
    method: http?.method ?? '',
    path: parts.path.path,
    query: parts.path.query,
    host: http?.host ?? '',
    sni: parts.tls?.serverName ?? '',
    alpn: parts.tls?.alpn ?? [],
    headers: parts.headers,
    parsed_path: parts.path.parsedPath,
    parsed_query: parts.path.parsedQuery,
  };
}

/** What a connection or request is by the bytes that were looked at, as policy and record name it. */
export function protocolOf({
  http,
  tls,
  transport,
}: {
  readonly http: DecisionHttpRequest | null;
  readonly tls?: DecisionTls | undefined;
  readonly transport?: DecisionRequest['transport'];
}): 'http' | 'tls' | 'tcp' | 'udp' {
  if (transport !== undefined) return transport;
  if (http !== null) return 'http';
  return tls === undefined ? 'tcp' : 'tls';
}

/** All times are UTC. */
function describeContext(request: DecisionRequest, context: DecisionContext): PolicyInput {
  const now = new Date(context.nowMs);
  return {
    decision_id: request.decisionId,
    direction: context.direction,
    time: now.toISOString(),
    time_ns: toNs(context.nowMs),
    weekday: WEEKDAYS[now.getUTCDay()],
    hour: now.getUTCHours(),
    minute: now.getUTCMinutes(),
    networks: context.networks ?? NO_NETWORKS,
    risk: UNKNOWN_RISK,
  };
}

/** As envoy.service.auth.v3.AttributeContext.HttpRequest; the pseudo-header fields are those that Envoy shows, for HTTP/1.1 too. */
function describeEnvoyRequest(
  { decisionId, http }: DecisionRequest,
  headers: Readonly<Record<string, string>>,
): PolicyInput {
  const head = http ?? { method: '', path: '', host: '' };
  const pseudo = { ':authority': head.host, ':method': head.method, ':path': head.path };
  return {
    id: decisionId,
    method: head.method,
    path: head.path,
    host: head.host,
    scheme: http === null ? '' : (http.scheme ?? 'http'),
    protocol: http === null ? '' : (http.protocol ?? 'HTTP/1.1'),
    headers: http === null ? {} : { ...headers, ...pseudo },
  };
}

/**
 * The headers, with nobody's word for who calls but ours: the proxy replaced `x-forwarded-client-cert` before, and a value that does not
 * name the caller who was verified is a mistake that must not be decided on.
 */
function buildHeaders(
  http: DecisionHttpRequest,
  { caller, target }: DecisionRequest,
): Readonly<Record<string, string>> {
  const { [CLIENT_CERT_HEADER]: given, ...headers } = http.headers;
  if (caller.spiffeId === null) {
    if (given !== undefined) throw forged();
    return headers;
  }
  if (given !== undefined && !given.split(';').includes(`URI=${caller.spiffeId}`)) throw forged();
  return { ...headers, [CLIENT_CERT_HEADER]: given ?? `By=${target.spiffeId ?? ''};URI=${caller.spiffeId}` };
}

function socketAddress(end: DecisionCaller | DecisionTarget): PolicyInput {
  return { socketAddress: { address: end.address, portValue: end.port } };
}

/** Whole milliseconds, so that the double's shortest text is the exact number of nanoseconds. */
function toNs(ms: number): number {
  return Math.floor(ms) * 1_000_000;
}

function forged(): PicketError {
  return new PicketError(
    'internal',
    'policy_error',
    `The header ${CLIENT_CERT_HEADER} does not name the caller who was verified`,
  );
}
