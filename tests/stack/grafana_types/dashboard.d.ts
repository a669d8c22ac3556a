// A dashboard as JSON, by Grafana's own types: each panel's options and field settings are those of its kind.
import type * as schema from '@grafana/schema';
import type * as bargauge from '@grafana/schema/dist/esm/raw/composable/bargauge/panelcfg/x/BarGaugePanelCfg_types.gen';
import type * as logs from '@grafana/schema/dist/esm/raw/composable/logs/panelcfg/x/LogsPanelCfg_types.gen';
import type * as stat from '@grafana/schema/dist/esm/raw/composable/stat/panelcfg/x/StatPanelCfg_types.gen';
import type * as statetimeline from '@grafana/schema/dist/esm/raw/composable/statetimeline/panelcfg/x/StateTimelinePanelCfg_types.gen';
import type * as table from '@grafana/schema/dist/esm/raw/composable/table/panelcfg/x/TablePanelCfg_types.gen';
import type * as timeseries from '@grafana/schema/dist/esm/raw/composable/timeseries/panelcfg/x/TimeSeriesPanelCfg_types.gen';

// JSON has the values of enums, not their members.
type Plain<T> = unknown extends T
  ? T
  : T extends string
    ? `${T}`
    : T extends number | boolean | null | undefined
      ? T
      : T extends Array<infer Item>
        ? Array<Plain<Item>>
        : T extends object
          ? { [Key in keyof T]: Plain<T[Key]> }
          : T;

interface Datasource<Kind extends string> {
  type: Kind;
  uid: Kind;
}

interface PrometheusTarget {
  refId: string;
  datasource: Datasource<'prometheus'>;
  expr: string;
  legendFormat?: string;
  instant: boolean;
  range: boolean;
  format: 'table' | 'time_series';
  exemplar?: boolean;
  editorMode: 'code';
}

interface LokiTarget {
  refId: string;
  datasource: Datasource<'loki'>;
  expr: string;
  legendFormat?: string;
  queryType: 'instant' | 'range';
  maxLines?: number;
  direction?: 'backward' | 'forward';
  editorMode: 'code';
}

interface JaegerTarget {
  refId: string;
  datasource: Datasource<'jaeger'>;
  query: string;
}

type Fields<Custom> = Omit<schema.FieldConfigSource, 'defaults'> & {
  defaults: Omit<schema.FieldConfig, 'custom'> & Custom;
};

type Known = Omit<schema.Panel, 'type' | 'options' | 'fieldConfig' | 'targets' | 'title' | 'description' | 'gridPos' | 'id'>;

interface Kind<Type extends string, Options, Custom = {}> extends Known {
  id: number;
  type: Type;
  title: string;
  description: string;
  gridPos: schema.GridPos;
  options: Options;
  fieldConfig: Fields<Custom>;
  targets: Array<PrometheusTarget | LokiTarget | JaegerTarget>;
}

// `spanNulls` is an option of the panel (its module.tsx), though not of the published type.
type Timeline = statetimeline.FieldConfig & { spanNulls?: boolean | number };

type Panel =
  | Kind<'stat', stat.Options>
  | Kind<'bargauge', bargauge.Options>
  | Kind<'timeseries', timeseries.Options, { custom: timeseries.FieldConfig }>
  | Kind<'state-timeline', statetimeline.Options, { custom: Timeline }>
  | Kind<'table', table.Options, { custom: table.FieldConfig }>
  | Kind<'logs', logs.Options>
  | Kind<'traces', {}>
  | schema.RowPanel;

export type Dashboard = Plain<
  Omit<schema.Dashboard, 'panels' | 'uid' | 'title' | 'id' | 'version'> & { uid: string; title: string; panels: Panel[] }
>;
