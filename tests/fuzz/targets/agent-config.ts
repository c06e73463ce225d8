import { AGENT_CONFIG_EXAMPLE } from '../../../agent/config/config-example.ts';
import { parseAgentConfig } from '../../../agent/config/config.ts';
import { readSettings } from '../../../shared/config/config-source.ts';
import { attempt, requireThat, words, type FuzzTarget } from '../target.ts';
import { splitSettings, wayOfRefusal, YAML_WORDS } from '../yaml-words.ts';

/** agent.yaml with variables behind a NUL: settings that can be used, or a refusal. */
export const target: FuzzTarget = {
  seeds: words(
    AGENT_CONFIG_EXAMPLE,
    'trust_domain: a\nservers: ["[::1]:1"]\ntrust: {root_key_sha256: aa}\nattestation: {join_token: t}\n\0PICKET_AGENT__PORTS__MESH=1\nPICKET_AGENT__TRUST={}',
  ),
  dictionary: YAML_WORDS,
  maxBytes: 8192,
  check(input) {
    const source = splitSettings(input);
    const parseYaml = (text: string): unknown => Bun.YAML.parse(text);
    const { value: config, refusal } = attempt(() =>
      parseAgentConfig(readSettings({ ...source, path: 'agent.yaml', prefix: 'PICKET_AGENT', parseYaml })),
    );
    if (config === undefined) return wayOfRefusal(refusal);
    requireThat(config.servers.length > 0 && config.dataDirectory.startsWith('/'), 'incomplete settings');
    const ports = [
      config.ports.outbound,
      config.ports.inbound,
      config.ports.mesh,
      ...config.servers.map(({ port }) => port),
    ];
    requireThat(
      ports.every((port) => Number.isInteger(port) && port > 0 && port < 65_536),
      'a port that is none',
    );
    return `${config.attestation.kind} ${config.trust.kind} ${config.capture.isEnabled}`;
  },
};
