import type { AgentConfig } from './config.ts';

/** Whether UDP that leaves this host is decided by the policy: it takes the rules of capture. */
export function decidesDatagrams({
  egress,
  capture,
}: {
  readonly egress: Pick<AgentConfig['egress'], 'decidesUdp'>;
  readonly capture: Pick<AgentConfig['capture'], 'isEnabled'>;
}): boolean {
  return egress.decidesUdp && capture.isEnabled;
}
