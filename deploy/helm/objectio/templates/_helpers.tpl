{{- define "objectio.labels" -}}
app.kubernetes.io/name: objectio
app.kubernetes.io/instance: {{ .Release.Name }}
app.kubernetes.io/version: {{ .Chart.AppVersion | quote }}
app.kubernetes.io/managed-by: {{ .Release.Service }}
{{- end }}

{{- define "objectio.selector" -}}
app.kubernetes.io/name: objectio
app.kubernetes.io/instance: {{ .Release.Name }}
{{- end }}

{{- define "objectio.pod" -}}
enableServiceLinks: false
automountServiceAccountToken: false
terminationGracePeriodSeconds: 90
securityContext:
  runAsNonRoot: true
  runAsUser: 10001
  runAsGroup: 10001
  fsGroup: 10001
  fsGroupChangePolicy: OnRootMismatch
  seccompProfile: {type: RuntimeDefault}
{{- end }}

{{- define "objectio.container" -}}
securityContext:
  allowPrivilegeEscalation: false
  readOnlyRootFilesystem: true
  capabilities: {drop: [ALL]}
{{- end }}

{{- define "objectio.keys" -}}
# What is newer in the pod's directory stays: keys that were made there are nowhere else.
command: ["sh", "-c"]
args:
  - umask 077; for file in cluster.secret keyring.json; do
    [ -e "/var/lib/objectio/$file" ] || cp "/keys/$file" "/var/lib/objectio/$file" || exit 1; done
volumeMounts:
  - {name: keys, mountPath: /keys, readOnly: true}
  - {name: data, mountPath: /var/lib/objectio}
{{- end }}

{{- define "objectio.environment" -}}
- {name: OBJECTIO_GATEWAY_METRICS_PUBLIC, value: "true"}
- {name: OBJECTIO_LOG_FORMAT, value: json}
- name: NODE_NAME
  valueFrom: {fieldRef: {fieldPath: spec.nodeName}}
- name: POD_NAME
  valueFrom: {fieldRef: {fieldPath: metadata.name}}
- name: OBJECTIO_ROOT_ACCESS_KEY
  valueFrom: {secretKeyRef: {name: {{ .Values.secret | quote }}, key: access-key}}
- name: OBJECTIO_ROOT_SECRET_KEY
  valueFrom: {secretKeyRef: {name: {{ .Values.secret | quote }}, key: secret-key}}
{{- end }}

{{- define "objectio.probes" -}}
startupProbe:
  httpGet: {path: /health/live, port: {{ .port }}, scheme: {{ .scheme }}}
  periodSeconds: 5
  failureThreshold: 120
readinessProbe:
  httpGet: {path: /health/ready, port: {{ .port }}, scheme: {{ .scheme }}}
  periodSeconds: 5
  timeoutSeconds: 3
# A process that is busy is slow to answer, and none the better for a new start.
livenessProbe:
  httpGet: {path: /health/live, port: {{ .port }}, scheme: {{ .scheme }}}
  periodSeconds: 20
  timeoutSeconds: 10
  failureThreshold: 6
{{- end }}
