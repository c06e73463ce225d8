import { SERVER_CONFIG_EXAMPLE } from '../../../server/config-example.ts';
import { parseServerConfig } from '../../../server/config.ts';
import { readSettings } from '../../../shared/config/config-source.ts';
import { attempt, requireThat, words, type FuzzTarget } from '../target.ts';
import { splitSettings, wayOfRefusal, YAML_WORDS } from '../yaml-words.ts';

/** server.yaml with variables behind a NUL: settings that can be used, or a refusal. */
export const target: FuzzTarget = {
  seeds: words(
    SERVER_CONFIG_EXAMPLE,
    'trust_domain: a\nca: {directory: /ca}\ndatabase: {url: x}\n\0PICKET_SERVER__SVID__AGENT_TTL_SECONDS=60\nPICKET_SERVER__TPM__PCRS=[1]',
  ),
  dictionary: YAML_WORDS,
  maxBytes: 8192,
  check(input) {
    const source = splitSettings(input);
    const parseYaml = (text: string): unknown => Bun.YAML.parse(text);
    const { value: config, refusal } = attempt(() =>
      parseServerConfig(readSettings({ ...source, path: 'server.yaml', prefix: 'PICKET_SERVER', parseYaml })),
    );
    if (config === undefined) return wayOfRefusal(refusal);
    requireThat(
      config.dataDirectory.startsWith('/') && config.caDirectory.startsWith('/'),
      'a folder that is none',
    );
    requireThat(
      config.tpm.pcrs.every((pcr) => Number.isInteger(pcr) && pcr >= 0 && pcr < 24),
      'there is no such PCR',
    );
    return `${config.database.url === undefined} ${config.listen.operators === undefined}`;
  },
};
