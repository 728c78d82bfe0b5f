{{- define "ainode.name" -}}
{{ .Release.Name | trunc 40 | trimSuffix "-" }}
{{- end }}

{{- define "ainode.labels" -}}
app.kubernetes.io/name: ainode
app.kubernetes.io/instance: {{ .Release.Name }}
{{- end }}

{{- define "ainode.image" -}}
{{ .Values.image.repository }}:{{ .Values.image.tag | default .Chart.AppVersion }}
{{- end }}

{{/* On the volume of the machine where the node writes it, else in a folder that the roles only read. */}}
{{- define "ainode.file" -}}
{{ if .Values.published }}/var/lib/ainode/configuration{{ else }}/etc/ainode{{ end }}/config.toml
{{- end }}

{{- define "ainode.environment" -}}
- name: POD_NAME
  valueFrom: { fieldRef: { fieldPath: metadata.name } }
- name: PGPASSWORD
  valueFrom: { secretKeyRef: { name: {{ .Values.database.secret }}, key: {{ .Values.database.key }} } }
{{- end }}

{{- define "ainode.confined" -}}
allowPrivilegeEscalation: false
readOnlyRootFilesystem: true
capabilities: { drop: [ALL] }
{{- end }}

{{/* What every container sees; ``readOnly``: of the configuration. */}}
{{- define "ainode.mounts" -}}
- { name: storage, mountPath: /var/lib/ainode }
- { name: temporary, mountPath: /tmp }
{{- if not .root.Values.published }}
- { name: configuration, mountPath: /etc/ainode, readOnly: {{ .readOnly }} }
{{- end }}
- { name: fleet, mountPath: /etc/ainode-secrets/fleet, readOnly: true }
{{- if .dashboard }}
- { name: dashboard, mountPath: /etc/ainode-secrets/dashboard, readOnly: true }
{{- end }}
{{- range $secret, $folder := .root.Values.extraSecrets }}
- { name: {{ $secret }}, mountPath: /etc/ainode-secrets/{{ $folder }}, readOnly: true }
{{- end }}
{{- end }}

{{/* Writes config.toml for this machine, and ends the drain that its last stop began. */}}
{{- define "ainode.init" -}}
- name: configuration
  image: {{ include "ainode.image" .root }}
  imagePullPolicy: {{ .root.Values.image.pullPolicy }}
  command:
    - sh
    - -ceu
    - |
      file={{ include "ainode.file" .root }}
      mkdir -p "$(dirname "$file")"
      if [ {{ .root.Values.published }} = false ] || [ ! -e "$file" ]; then
        sed "s/@HOST@/$POD_NAME.{{ .service }}.{{ .root.Release.Namespace }}.svc.{{ .root.Values.clusterDomain }}/" \
          /given/config.toml > "$file.new"
        mv "$file.new" "$file"
      fi
      # Status 8: it is not drained.
      ainode drain --undo "$POD_NAME" --config "$file" || [ $? = 8 ]
  env:
    {{- include "ainode.environment" .root | nindent 4 }}
  securityContext:
    {{- include "ainode.confined" .root | nindent 4 }}
  resources:
    requests: { cpu: 100m, memory: 256Mi }
    limits: { memory: 1Gi }
  volumeMounts:
    - { name: given, mountPath: /given, readOnly: true }
    {{- include "ainode.mounts" (merge (dict "readOnly" false) .) | nindent 4 }}
{{- end }}

{{/* A role. It has no liveness probe: that would run preStop and drain the machine; the node replaces its own processes. */}}
{{- define "ainode.role" -}}
- name: {{ .role }}
  image: {{ include "ainode.image" .root }}
  imagePullPolicy: {{ .root.Values.image.pullPolicy }}
  args: [run, --only, {{ .role }}, --config, {{ include "ainode.file" .root }}]
  env:
    {{- include "ainode.environment" .root | nindent 4 }}
  lifecycle:
    preStop:
      exec:
        command: [sh, -c, 'ainode drain "$POD_NAME" --wait {{ .drainSeconds }} --config {{ include "ainode.file" .root }}']
  securityContext:
    {{- include "ainode.confined" .root | nindent 4 }}
  volumeMounts:
    {{- include "ainode.mounts" (merge (dict "readOnly" true) .) | nindent 4 }}
{{- end }}

{{- define "ainode.volumes" -}}
- name: given
  configMap: { name: {{ include "ainode.name" .root }} }
- name: temporary
  emptyDir: {}
{{- if not .root.Values.published }}
- name: configuration
  emptyDir: {}
{{- end }}
- name: fleet
  secret: { secretName: {{ .root.Values.fleet.secret }}, defaultMode: 0440 }
{{- if .dashboard }}
- name: dashboard
  secret: { secretName: {{ .root.Values.dashboard.secret }}, defaultMode: 0440 }
{{- end }}
{{- range $secret, $folder := .root.Values.extraSecrets }}
- name: {{ $secret }}
  secret: { secretName: {{ $secret }}, defaultMode: 0440 }
{{- end }}
{{- end }}

{{- define "ainode.claim" -}}
- metadata: { name: storage }
  spec:
    accessModes: [ReadWriteOnce]
    {{- with .class }}
    storageClassName: {{ . }}
    {{- end }}
    resources: { requests: { storage: {{ .size }} } }
{{- end }}
