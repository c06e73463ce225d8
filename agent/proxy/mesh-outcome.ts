import type { StreamFailure } from './byte-stream.ts';
import type { MeshOutcome } from './mesh.ts';
import type { MeshDialFailure, OutboundMeshConnection } from './mesh-dialer-connection.ts';
import type { TunnelAnswer } from './tunnel-client.ts';

/** What the called side's answer on a connection means for who asked. */
export function outcomeOf(answer: TunnelAnswer, connection: OutboundMeshConnection): MeshOutcome {
  const { peerNotAfterMs, peerSerial } = connection;
  if (answer.kind === 'accepted')
    return { kind: 'accepted', stream: answer.stream, peerNotAfterMs, peerSerial };
  const { failure } = answer;
  return answer.kind === 'denied' ? denied(failure) : failed(reasonOf(failure), failure.message);
}

/** A denial whose reason we do not know, of a newer agent, is still one. */
function denied({ reason = 'policy_deny', decisionId = '', message }: StreamFailure): MeshOutcome {
  return { kind: 'denied', reason, decisionId, message };
}

function reasonOf({ reason }: StreamFailure): MeshDialFailure['reason'] {
  const isOurs = reason === 'protocol_error' || reason === 'overloaded' || reason === 'target_untrusted';
  return isOurs ? reason : 'target_unreachable';
}

/** A dial that came to nothing. */
export function failed(reason: MeshDialFailure['reason'], message: string): MeshDialFailure {
  return { kind: 'failed', reason, message };
}
