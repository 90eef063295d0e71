# scheduler: starts and stops model services as Nomad jobs. One runs at a time: a second one waits for the lock.

variable "driver" {
  type        = string
  default     = "raw_exec"
  description = "raw_exec, or docker with an image"
}

variable "image" {
  type        = string
  default     = ""
  description = "With docker: the image"
}

variable "datacenters" {
  type    = list(string)
  default = ["*"]
}

variable "node_pool" {
  type    = string
  default = "default"
}

variable "host_network" {
  type        = string
  default     = "default"
  description = "The clients' network that the port is taken from; name one with IPv4 alone"
}

variable "node" {
  type        = string
  default     = ""
  description = "The name of the node that it is to stay on, for its data; empty: any"
}

variable "python" {
  type        = string
  default     = "/opt/caravan/bin/python"
  description = "The Python of the environment that Caravan is installed in, on each node"
}

variable "nats_url" {
  type    = string
  default = "nats://127.0.0.1:4222"
}

variable "environment" {
  type        = map(string)
  default     = {}
  description = "More settings, by their environment variables"
}

variable "data_dir" {
  type        = string
  default     = "/var/lib/caravan"
  description = "Where the database lives on the node"
}

variable "nomad_addr" {
  type        = string
  default     = "http://127.0.0.1:4646"
  description = "A Nomad agent, as the node reaches it"
}

variable "worker_image" {
  type        = string
  default     = ""
  description = "With docker: the image that holds worker and engine"
}

variable "worker_node_pool" {
  type        = string
  default     = "default"
  description = "Where model services run"
}

variable "engine_command" {
  type        = string
  default     = "/opt/caravan-engine/bin/sglang"
  description = "The engine's program on the nodes, shell words"
}

variable "engine_kind" {
  type        = string
  default     = "cuda"
  description = "cpu, cuda or fake"
}

job "caravan-scheduler" {
  type        = "service"
  datacenters = var.datacenters
  node_pool   = var.node_pool

  ui {
    description = "What should run, and making it so. Without it models go on serving; changes wait."
  }

  group "scheduler" {
    dynamic "constraint" {
      for_each = var.node == "" ? [] : [var.node]
      content {
        attribute = "$${node.unique.name}"
        value     = constraint.value
      }
    }

    # On the same node, where its data is, for ever.
    restart {
      attempts = 5
      interval = "1m"
      delay    = "2s"
      mode     = "delay"
    }

    shutdown_delay = "1s"

    network {
      mode = "host"
      port "http" {
        host_network = var.host_network
      }
    }

    service {
      name     = "caravan-scheduler"
      provider = "nomad"
      port     = "http"

      check {
        type     = "http"
        path     = "/ready"
        interval = "10s"
        timeout  = "3s"
      }
    }

    task "scheduler" {
      driver       = var.driver
      kill_signal  = "SIGTERM"
      kill_timeout = "30s"

      env = merge({
        SCHEDULER_NATS_URL           = var.nats_url
        SCHEDULER_DATABASE_URL       = "sqlite:///${var.data_dir}/scheduler.db"
        SCHEDULER_HOST               = "$${NOMAD_IP_http}"
        SCHEDULER_PORT               = "$${NOMAD_PORT_http}"
        SCHEDULER_CLUSTER            = "nomad"
        SCHEDULER_NOMAD_ADDR         = var.nomad_addr
        SCHEDULER_NOMAD_NAMESPACE    = "$${NOMAD_NAMESPACE}"
        SCHEDULER_NOMAD_DRIVER       = var.driver
        SCHEDULER_NOMAD_IMAGE        = var.worker_image
        SCHEDULER_NOMAD_NODE_POOL    = var.worker_node_pool
        SCHEDULER_NOMAD_HOST_NETWORK = var.host_network
        SCHEDULER_WORKER_COMMAND     = "${var.python} -m services.worker"
        SCHEDULER_ENGINE_COMMAND     = var.engine_command
        SCHEDULER_ENGINE_KIND        = var.engine_kind
        SCHEDULER_LOG_FORM           = "json"
      }, var.environment)

      # Secrets stand in the Nomad Variable of the job, not in its text.
      template {
        destination = "secrets/scheduler.env"
        env         = true
        data        = <<-EOT
        {{ if nomadVarExists "nomad/jobs/caravan-scheduler" }}{{ with nomadVar "nomad/jobs/caravan-scheduler" }}
        {{ with .database_url }}SCHEDULER_DATABASE_URL={{ . }}
        {{ end }}{{ with .nats_seed }}SCHEDULER_NATS_SEED={{ . }}
        {{ end }}{{ with .nomad_token }}SCHEDULER_NOMAD_TOKEN={{ . }}
        {{ end }}
        {{ end }}{{ end }}
        EOT
      }

      config {
        image        = var.driver == "docker" ? var.image : null
        network_mode = var.driver == "docker" ? "host" : null
        command      = "/bin/sh"
        args         = ["-c", "mkdir -p \"$0\" && exec \"$1\" -m services.scheduler", var.data_dir, var.python]
      }

      resources {
        cpu    = 200
        memory = 256
      }
    }
  }
}
