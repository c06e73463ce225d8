import { Option } from 'commander';

export const DEFAULT_AGENT_CONFIG = '/etc/picket/agent.yaml';

/** Where the settings of the agent are. */
export function configOption(): Option {
  return new Option('--config <file>', 'settings of the agent')
    .env('PICKET_AGENT_CONFIG')
    .default(DEFAULT_AGENT_CONFIG);
}
