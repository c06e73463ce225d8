import { PicketError } from '../errors/errors.ts';

/** The largest configuration file in characters. */
const MAX_CHARACTERS = 1024 * 1024;

/** What separates the levels of a setting in the name of a variable. */
const LEVEL = '__';

/** YAML and variables before any of it is checked. */
export interface ConfigSource {
  /** Text of the YAML file. */
  readonly text: string;
  /** Where it stands, for messages. */
  readonly path: string;
  readonly environment: Readonly<Record<string, string | undefined>>;
  /** `PICKET_SERVER` or `PICKET_AGENT`: `PICKET_SERVER__DATABASE__URL` sets `database.url`, its value read as YAML. */
  readonly prefix: string;
  readonly parseYaml: (text: string) => unknown;
}

type Settings = Record<string, unknown>;

/** The settings of a file with those of the environment over them. Throws `invalid_argument`, reason `config_invalid`, when the file is no YAML object. */
export function readSettings(source: ConfigSource): Settings {
  if (source.text.length > MAX_CHARACTERS)
    throw invalid(`${source.path} is longer than ${MAX_CHARACTERS} characters`);
  const settings = parseFile(source);
  const start = `${source.prefix}${LEVEL}`;
  for (const [name, value] of Object.entries(source.environment))
    if (name.startsWith(start) && value !== undefined)
      set(settings, name.slice(start.length).toLowerCase().split(LEVEL), parseValue(name, value, source));
  return settings;
}

function parseFile({ text, path, parseYaml }: ConfigSource): Settings {
  let value: unknown;
  try {
    value = parseYaml(text);
  } catch (cause) {
    throw invalid(`${path} is not YAML: ${cause instanceof Error ? cause.message : ''}`, cause);
  }
  if (isSettings(value)) return structuredClone(value);
  throw invalid(`${path} holds no settings`);
}

function parseValue(name: string, text: string, { parseYaml }: ConfigSource): unknown {
  try {
    return parseYaml(text);
  } catch (cause) {
    throw invalid(`The variable ${name} is not YAML`, cause);
  }
}

function set(settings: Settings, path: readonly string[], value: unknown): void {
  const [key = '', ...rest] = path;
  if (rest.length === 0) {
    settings[key] = value;
    return;
  }
  const inner = settings[key];
  const next: Settings = isSettings(inner) ? inner : {};
  settings[key] = next;
  set(next, rest, value);
}

function isSettings(value: unknown): value is Settings {
  return typeof value === 'object' && value !== null && !Array.isArray(value);
}

function invalid(message: string, cause?: unknown): PicketError {
  return new PicketError('invalid_argument', 'config_invalid', message, { cause });
}
