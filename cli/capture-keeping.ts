import type { CaptureChoice } from '../agent/capture/open-capture.ts';
import type { AgentConfig } from '../agent/config.ts';

/** With what capture is done, and where it is kept. */
export interface CaptureKeeping extends CaptureChoice {
  /** The rules for the next boot. */
  readonly rulesFile: string;
}

/** What a configuration says of it, or how it is where there is none. */
export function captureKeeping(config: AgentConfig | undefined): CaptureKeeping {
  if (config !== undefined) return { ...config.capture.choice, rulesFile: config.capture.rulesFile };
  return {
    backend: 'nftables',
    bpfFolder: '/sys/fs/bpf/picket',
    cgroup: undefined,
    maxRecords: 1,
    rulesFile: '/var/lib/picket/agent/capture.nft',
  };
}
