{{/* Labels of everything. */}}
{{- define "tidegate.labels" -}}
app.kubernetes.io/name: tidegate
app.kubernetes.io/instance: {{ .Release.Name }}
app.kubernetes.io/version: {{ .Chart.AppVersion | quote }}
app.kubernetes.io/managed-by: {{ .Release.Service }}
helm.sh/chart: {{ .Chart.Name }}-{{ .Chart.Version }}
{{- end }}

{{/* Labels that tell one part's pods from others'. */}}
{{- define "tidegate.selector" -}}
app.kubernetes.io/name: tidegate
app.kubernetes.io/instance: {{ .root.Release.Name }}
app.kubernetes.io/component: {{ .part }}
{{- end }}

{{- define "tidegate.image" -}}
{{ .Values.image.repository }}:{{ .Values.image.tag | default .Chart.AppVersion }}
{{- end }}

{{/* Nodes that the image runs on. */}}
{{- define "tidegate.nodeAffinity" -}}
nodeAffinity:
  requiredDuringSchedulingIgnoredDuringExecution:
    nodeSelectorTerms:
      - matchExpressions:
          - {key: kubernetes.io/arch, operator: In, values: {{ .Values.architectures | toJson }}}
          - {key: kubernetes.io/os, operator: In, values: [linux]}
{{- end }}

{{/* Where the API server is, if pods are not told it rightly. */}}
{{- define "tidegate.env" -}}
{{- with .Values.apiServer }}
{{- if .host }}
- {name: KUBERNETES_SERVICE_HOST, value: {{ .host | quote }}}
{{- end }}
{{- if .port }}
- {name: KUBERNETES_SERVICE_PORT, value: {{ .port | toString | quote }}}
{{- end }}
{{- end }}
- name: POD_NAME
  valueFrom: {fieldRef: {fieldPath: metadata.name}}
- name: POD_NAMESPACE
  valueFrom: {fieldRef: {fieldPath: metadata.namespace}}
{{- end }}

{{/* What the controller may do with policies and their targets: the same rules in a ClusterRole or in Roles. */}}
{{- define "tidegate.rules" -}}
- apiGroups: [tidegate.io]
  resources: [servingpolicies, trainingpolicies]
  verbs: [list, watch]
- apiGroups: [tidegate.io]
  resources: [servingpolicies/status, trainingpolicies/status]
  verbs: [patch]
# Patched: the annotation by which those with the least in flight go first.
- apiGroups: [""]
  resources: [pods]
  verbs: [list, watch, patch]
{{- if .Values.controller.checkpointExec }}
# Checkpoints of training jobs by a command or a signal.
- apiGroups: [""]
  resources: [pods/exec]
  verbs: [get, create]
- apiGroups: [""]
  resources: [pods/log]
  verbs: [get]
{{- end }}
# Their floors are raised, and given back.
- apiGroups: [autoscaling]
  resources: [horizontalpodautoscalers]
  verbs: [list, watch, patch]
- apiGroups: [keda.sh]
  resources: [scaledobjects]
  verbs: [list, watch, patch]
# What policies may target: looked at whole, written by its size alone where there is a subresource for it.
- apiGroups: [apps]
  resources: [deployments, statefulsets, replicasets]
  verbs: [list, watch]
- apiGroups: [apps]
  resources: [deployments/scale, statefulsets/scale, replicasets/scale]
  verbs: [patch]
- apiGroups: [leaderworkerset.x-k8s.io]
  resources: [leaderworkersets]
  verbs: [list, watch]
- apiGroups: [leaderworkerset.x-k8s.io]
  resources: [leaderworkersets/scale]
  verbs: [patch]
- apiGroups: [batch]
  resources: [jobs]
  verbs: [list, watch, patch]
- apiGroups: [jobset.x-k8s.io]
  resources: [jobsets]
  verbs: [list, watch, patch]
- apiGroups: [kubeflow.org]
  resources: [pytorchjobs]
  verbs: [list, watch, patch]
- apiGroups: [trainer.kubeflow.org]
  resources: [trainjobs]
  verbs: [list, watch, patch]
- apiGroups: [ray.io]
  resources: [rayclusters]
  verbs: [list, watch, patch]
- apiGroups: [serving.kserve.io]
  resources: [inferenceservices]
  verbs: [list, watch, patch]
{{- range .Values.controller.extraTargets }}
- apiGroups: {{ .apiGroups | toJson }}
  resources: {{ .resources | toJson }}
  verbs: [list, watch]
- apiGroups: {{ .apiGroups | toJson }}
  resources:
    {{- range .resources }}
    - {{ . }}/scale
    {{- end }}
  verbs: [patch]
{{- end }}
- apiGroups: [events.k8s.io]
  resources: [events]
  verbs: [create, patch]
{{- end }}

{{- define "tidegate.restoreRules" -}}
- apiGroups: [autoscaling]
  resources: [horizontalpodautoscalers]
  verbs: [list, patch]
- apiGroups: [keda.sh]
  resources: [scaledobjects]
  verbs: [list, patch]
{{- end }}
