import type { CaptureChoice } from '../agent/capture/open-capture.ts';
import type { AgentConfig } from '../agent/config/config.ts';

/** With what capture is done, and where it is kept. */
export interface CaptureKeeping extends CaptureChoice {
  /** The rules for the next boot. */
  readonly rulesFile: string;
  /** As `CaptureSettings.transparentId`. */
  readonly transparentId: number;
  /** Namespaces of this host that have rules of their own. */
  readonly namespaces: AgentConfig['capture']['namespaces'];
}

/** What a configuration says of it, or how it is where there is none. */
export function captureKeeping(config: AgentConfig | undefined): CaptureKeeping {
  if (config !== undefined) {
    const { choice, rulesFile, transparentId, namespaces } = config.capture;
    return { ...choice, rulesFile, transparentId, namespaces };
  }
  return {
    backend: 'nftables',
    bpfFolder: '/sys/fs/bpf/picket',
    cgroup: undefined,
    maxRecords: 1,
    rulesFile: '/var/lib/picket/agent/capture.nft',
    transparentId: 0x504a,
    namespaces: { named: [], patterns: [] },
  };
}
