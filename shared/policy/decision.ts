import type { SpiffeId } from '../spiffe/spiffe-id.ts';
import type { EgressTerms } from './egress-terms.ts';

/**
 * Why a connection or request was allowed or denied: the closed list behind logs, metrics, audit records, the tunnel's deny frame
 * and `picket why`. `code` is the byte on the wire and never reused.
 */
export const DECISION_REASONS = {
  policy_allow: { code: 1, text: 'the policy allows it' },
  policy_deny: { code: 2, text: 'no rule of the policy allows it' },
  no_policy: { code: 3, text: 'no policy is in force, and the default is to deny' },
  policy_error: { code: 4, text: 'the policy could not be evaluated' },
  egress_deny: { code: 5, text: 'no egress rule allows the destination' },
  caller_unidentified: { code: 6, text: 'the calling process has no identity' },
  target_unknown: { code: 7, text: 'the destination is not registered in the mesh' },
  target_unreachable: { code: 8, text: 'the destination host could not be reached' },
  target_untrusted: { code: 9, text: 'the destination did not prove the identity that the directory names' },
  listener_unidentified: {
    code: 10,
    text: 'the process that listens there does not earn the registered identity',
  },
  listener_not_registered: {
    code: 11,
    text: 'no listener is registered at that address and port of the host',
  },
  caller_untrusted: { code: 12, text: 'the caller did not prove a workload identity of a trusted domain' },
  application_unreachable: { code: 13, text: 'the application refused the connection' },
  protocol_error: { code: 14, text: 'the bytes are not valid for the protocol' },
  audit_unavailable: { code: 15, text: 'the decision could not be recorded' },
  overloaded: { code: 16, text: 'a limit of the agent was reached' },
  own_listener: { code: 17, text: 'the destination is a listener of the agent itself' },
  quarantined: { code: 18, text: 'an operator has put one of both sides in quarantine' },
  domain_unverified: { code: 19, text: 'the name that was asked for does not lead to the destination' },
  certificate_refused: {
    code: 20,
    text: 'the outside server did not prove the certificate that the policy asks for',
  },
  inspection_not_configured: {
    code: 21,
    text: 'the policy asks for its TLS to be inspected, and the host that dials has no authority for that',
  },
  inspection_refused: { code: 22, text: 'the policy asks for its TLS to be inspected, and it cannot be' },
} as const;

export type DecisionReason = keyof typeof DECISION_REASONS;

/** What enforcing would have denied. */
export interface WouldDeny {
  /** Rules in audit that would have denied it, as the policy names them; none where the service itself is in audit mode. */
  readonly rules: readonly string[];
}

/** What a policy evaluation yields. Every field other than `isAllowed` and `reason` comes from the object form of the result. */
export interface Verdict {
  readonly isAllowed: boolean;
  readonly reason: DecisionReason;
  /** It passes in audit mode; enforced, it would be denied for `reason`. Absent: it would not. */
  readonly wouldDeny?: WouldDeny;
  /** Of what may leave the mesh; absent where the policy makes none. */
  readonly terms?: EgressTerms;
  /** One sentence for people: the policy's own `reason` where it gives one, otherwise the text of the reason. */
  readonly message: string;
  /** Status of the answer to a denied HTTP request (opa-envoy-plugin `http_status`); 403 unless the policy names another from 400 to 599. */
  readonly httpStatus: number;
  /** The version in force, or null when there is none. */
  readonly policyVersion: number | null;
  /** `input.user.id` of a user who is known and whom the policy may read; absent otherwise. */
  readonly userId?: string;
  /** Time that the evaluation took, in microseconds. */
  readonly latencyUs: number;
}

/** One end of a connection as policy sees it. `spiffeId` is null for a caller that proved nothing. */
export interface DecisionCaller {
  readonly spiffeId: SpiffeId | null;
  readonly address: string;
  readonly port: number;
  /** End of life of the certificate that proved the identity, in milliseconds since 1970; 0 without one. */
  readonly certificateNotAfterMs: number;
  /** Of that certificate, lower-case hexadecimal; absent without one. No policy sees it. */
  readonly certificateSerial?: string;
}

export interface DecisionTarget {
  readonly spiffeId: SpiffeId | null;
  readonly address: string;
  readonly port: number;
  /** The DNS name by which the client asks for a destination outside of the mesh, and which leads there; absent where it asked for none. */
  readonly domain?: string;
  /** Where a service in several places is asked for: who was chosen to answer; `address` and `port` are the service's. No policy sees it. */
  readonly member?: { readonly address: string; readonly port: number };
  /** Of the certificate by which the target proved its identity to us, as of the caller. */
  readonly certificateSerial?: string;
}

/**
 * An HTTP request head. Header names are lower case; a repeated header's values are joined with a comma and no space lost. An extended CONNECT (RFC 8441) has
 * `:protocol` among its headers.
 */
export interface DecisionHttpRequest {
  /** HTTP/1.1 where it is absent. */
  readonly protocol?: 'HTTP/2';
  /** `http` where it is absent. */
  readonly scheme?: string;
  readonly method: string;
  /** Path with query, exactly as the application will get it. */
  readonly path: string;
  readonly host: string;
  readonly headers: Readonly<Record<string, string>>;
}

/** What a TLS connection that is passed through says of itself before it is encrypted (its ClientHello). */
export interface DecisionTls {
  /** In lower case; empty without one. */
  readonly serverName: string;
  /** Protocols that the client offers (ALPN). */
  readonly alpn: readonly string[];
}

/** A question to the policy: for a connection `http` is null. */
export interface DecisionRequest {
  readonly decisionId: string;
  readonly caller: DecisionCaller;
  readonly target: DecisionTarget;
  readonly http: DecisionHttpRequest | null;
  /** Absent where the connection is no TLS, or nobody looked. */
  readonly tls?: DecisionTls;
  /** A flow of UDP datagrams; absent for what is no UDP. */
  readonly transport?: 'udp';
}
