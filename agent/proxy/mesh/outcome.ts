import type { StreamFailure } from '../streams/byte-stream.ts';
import type { MeshConnectionUse, MeshOutcome } from './mesh.ts';
import type { MeshDialFailure } from './dialer-connection.ts';
import type { TunnelAnswer } from '../tunnel/client.ts';

/** What was asked for a connection. */
export interface UsedConnection {
  readonly connection: { readonly peerNotAfterMs: number; readonly peerSerial: string; leave(): void };
  readonly use: MeshConnectionUse;
}

/** What the called side's answer on a connection means for who asked. */
export function outcomeOf(answer: TunnelAnswer, { connection, use }: UsedConnection): MeshOutcome {
  const { peerNotAfterMs, peerSerial } = connection;
  if (answer.kind === 'accepted')
    return {
      kind: 'accepted',
      stream: answer.stream,
      peerNotAfterMs,
      peerSerial,
      use,
      leave: () => connection.leave(),
    };
  const { failure } = answer;
  return answer.kind === 'denied' ? denied(failure) : failed(reasonOf(failure), failure.message);
}

/** A denial whose reason we do not know, of a newer agent, is still one. */
function denied({ reason = 'policy_deny', decisionId = '', message }: StreamFailure): MeshOutcome {
  return { kind: 'denied', reason, decisionId, message };
}

const OURS = ['protocol_error', 'overloaded', 'target_untrusted', 'caller_untrusted'] as const;

function reasonOf({ reason }: StreamFailure): MeshDialFailure['reason'] {
  return OURS.find((each) => each === reason) ?? 'target_unreachable';
}

/** A dial that came to nothing. */
export function failed(reason: MeshDialFailure['reason'], message: string): MeshDialFailure {
  return { kind: 'failed', reason, message };
}
